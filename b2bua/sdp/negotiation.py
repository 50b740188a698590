"""Offers and answers that pass through us: each party sees our address, and one plain audio stream or fax (RFC 3264).

What is not ours to judge (codecs, their parameters, ptime, what a fax can do) passes as it is; addresses, ICE, keys and
other kinds of media do not. A stream that we do not carry keeps its `m=` line, with port 0, so that the lines of offer
and answer stay aligned (RFC 3264 §6). telephone-event is each party's own affair: it is offered to everybody, and
whoever offers it gets it, as the relay translates for a party without it (RFC 4733).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from b2bua.sdp.session import (
    DIRECTION_LINES,
    EVENTS,
    MAX_FORMATS,
    Direction,
    Host,
    Media,
    SdpError,
    SessionDescription,
    encode,
    host,
    is_events,
    is_voice,
    parse,
)

PLAIN = "RTP/AVP"
FAX = "UDPTL"                                                   # T.38, Annex D; either case is in use
DIGITS_TAKEN = "0-15"                                           # RFC 4733 §2.4.1: the keys of a telephone
PLAIN_VOICE = frozenset({"PCMA/8000", "PCMU/8000", "TELEPHONE-EVENT/8000"})     # what everybody has
# Attributes that tell the other side where or how to reach the sender without us.
STRIPPED = frozenset({
    "alt", "candidate", "connection", "crypto", "end-of-candidates", "fingerprint", "group", "ice-lite", "ice-mismatch",
    "ice-options", "ice-pacing", "ice-pwd", "ice-ufrag", "identity", "key-mgmt", "remote-candidates", "rtcp-mux",
    "rtcp-mux-only", "setup", "tls-id", "zrtp-hash",
})  # fmt: skip
_BEFORE_CONNECTION = frozenset("siuep")                         # the order of RFC 8866 §5


class NotAcceptable(Exception):
    """A session description, but none that we can carry (488)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one party wants its packets."""

    host: str
    port: int
    rtcp_host: str
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class Stream:
    """The audio stream as one party describes its end. No endpoint: nothing can be sent there (a name, old hold)."""

    endpoint: Endpoint | None
    codecs: Mapping[int, str]                   # of a fax: none
    direction: Direction
    fax: bool = False

    @property
    def on_hold(self) -> bool:
        return self.direction is not Direction.SENDRECV


@dataclass(frozen=True, slots=True)
class Relayed:
    """What to send on, and what was learned of the sender."""

    body: bytes
    stream: Stream
    events: Mapping[int, str] = field(default_factory=dict)     # that were offered though the sender has none


class Face:
    """How one party sees us: an address, a port, an origin whose version grows with every change (RFC 3264 §8)."""

    __slots__ = ("_body", "_host", "_port", "_session_id", "_version")

    def __init__(self, address: str, port: int, session_id: int) -> None:
        self._host = f"IN IP{6 if ':' in address else 4} {address}"
        self._port = port
        self._session_id = session_id
        self._version = 0
        self._body: list[str] = []

    def show(self, session: SessionDescription, media: list[Media], carried: Media, audio: list[str]) -> bytes:
        """`media` in order, with the lines `audio` for the one that is `carried`."""
        head, tail = self._session_lines(session)
        body = [*head, f"c={self._host}", *tail]
        for line in media:
            if line is carried:
                body.append(f"m={carried.kind} {self._port} {carried.protocol} {' '.join(carried.formats)}")
                body += audio
            else:
                body.append(f"m={line.rejected().head}")
        if body != self._body:
            self._version += 1
            self._body = body
        return encode(["v=0", f"o=- {self._session_id} {self._version} {self._host}", *body])

    def rtcp(self) -> str:
        return f"a=rtcp:{self._port + 1} {self._host}"

    @staticmethod
    def _session_lines(session: SessionDescription) -> tuple[list[str], list[str]]:
        head: list[str] = []
        tail: list[str] = []
        for line in session.lines:
            letter = line[0]
            if letter in _BEFORE_CONNECTION:
                head.append(line)
            elif letter not in "voc" and not _is_stripped(line) and line not in DIRECTION_LINES:
                tail.append(line)
        if not head or head[0][0] != "s":
            head.insert(0, "s=-")
        if not any(line[0] == "t" for line in tail):
            tail.insert(sum(line[0] == "b" for line in tail), "t=0 0")
        return head, tail


def relay_offer(offer: SessionDescription, face: Face, *, plays: bool = False) -> Relayed:
    """The offer as the other party shall see it; `plays`: where the offerer sends nothing, we do. Raises NotAcceptable,
    SdpError."""
    carried = _carried(offer)
    stream = _stream(offer, carried)
    if stream.fax:
        lines = _lines(carried, stream.direction, carried.formats, face)
        return Relayed(face.show(offer, [*offer.media], carried, lines), stream)
    _require_voice(stream.codecs.values())
    body, events = _show_audio(offer, carried, _with_us(stream.direction) if plays else stream.direction, face)
    return Relayed(body, stream, events)


def introduction(description: SessionDescription, face: Face) -> bytes:
    """An offer for somebody new, from the last word of the one who shall talk to them: the same codecs, no hold.

    Raises NotAcceptable, SdpError.
    """
    return _show_audio(description, carried_audio(description), Direction.SENDRECV, face)[0]


def _show_audio(
    offer: SessionDescription, carried: Media, direction: Direction, face: Face
) -> tuple[bytes, Mapping[int, str]]:
    """The offer, and the telephone-event that it has more than when it came."""
    events = _events_offered(carried, carried.codecs())
    shown = replace(carried, formats=(*carried.formats, *map(str, events)))
    audio = _lines(carried, direction, shown.formats, face, _events_lines(events))
    return face.show(offer, [shown if media is carried else media for media in offer.media], shown, audio), events


def relay_answer(answer: SessionDescription, offer: SessionDescription, face: Face, *, plays: bool = False) -> Relayed:
    """The answer as the offerer shall see it: its own `m=` lines, codecs of both; `plays` as in the offer. Raises
    NotAcceptable, SdpError."""
    offered = _carried(offer)
    answered = _answered(answer, offer.media.index(offered), offered)
    stream = _stream(answer, answered)
    if stream.fax:
        kept, added = answered.formats, list[str]()
    else:
        codecs = offered.codecs()
        common = _common(stream.codecs, codecs)
        _require_voice(common.values())
        kept = tuple(text for text in answered.formats if int(text) in common)
        events = _events_kept(codecs, common)
        kept, added = (*kept, *map(str, events)), _events_lines(events)
        own = {number: codec for number, codec in stream.codecs.items() if number in common or is_events(codec)}
        stream = Stream(stream.endpoint, own, stream.direction)
    carried = Media("", offered.kind, answered.port, offered.protocol, kept)
    wanted = _stream(offer, offered).direction
    shown = _with_us(stream.direction) if plays and wanted.receives else stream.direction
    if wanted is Direction.INACTIVE:                    # whatever the other one says to our playing (RFC 3264 §6.1)
        shown = Direction.INACTIVE
    lines = [carried if media is offered else media for media in offer.media]
    return Relayed(face.show(answer, lines, carried, _lines(answered, shown, kept, face, added)), stream)


def _events_offered(media: Media, codecs: Mapping[int, str]) -> Mapping[int, str]:
    """telephone-event for the answerer, where the offer has none."""
    narrow = any(is_voice(codec) and codec.split("/")[1] == "8000" for codec in codecs.values())
    free = next((number for number in (101, *range(96, 128)) if number not in codecs), None)
    if any(map(is_events, codecs.values())) or not narrow or free is None or len(media.formats) >= MAX_FORMATS:
        return {}
    return {free: f"{EVENTS}/8000"}


def _events_kept(offered: Mapping[int, str], common: Mapping[int, str]) -> Mapping[int, str]:
    """telephone-event for the offerer, where the answer has none."""
    if any(map(is_events, common.values())):
        return {}
    clocks = {codec.split("/")[1] for codec in common.values() if is_voice(codec)}
    return {number: codec for number, codec in offered.items()
            if is_events(codec) and codec.split("/")[1] in clocks and number not in common}


def _events_lines(events: Mapping[int, str]) -> list[str]:
    return [line for number, codec in events.items()
            for line in (f"a=rtpmap:{number} {codec}", f"a=fmtp:{number} {DIGITS_TAKEN}")]


def less(offer: bytes, refusal: bytes) -> tuple[bytes, frozenset[str]] | None:
    """What to offer who has refused `offer`, and the encodings that are left in it; None: nothing else can be offered.

    By the description of what they can do, where the refusal has one (RFC 3261 §21.4.26), else plain G.711.
    """
    try:
        codecs = _capabilities(parse(refusal))
    except SdpError:
        codecs = frozenset()
    codecs = codecs or PLAIN_VOICE
    try:
        body = narrowed(_alone(offer), codecs)
    except (SdpError, NotAcceptable):
        return None
    return None if body == offer else (body, codecs)


def _capabilities(description: SessionDescription) -> frozenset[str]:
    """Of plain audio. Port 0 is usual there (RFC 3264 §9)."""
    audio = (media for media in description.media if media.kind == "audio" and media.protocol == PLAIN)
    return frozenset(codec.upper() for media in audio for codec in media.codecs().values())


def narrowed(offer: bytes, codecs: frozenset[str]) -> bytes:
    """The offer with no other encodings of voice than these; `offer` itself, when it has no others.

    Its version stays (RFC 3264 §8): the offer that was refused has become no part of any session. Raises NotAcceptable
    when nothing to talk by is left, SdpError.
    """
    description = parse(offer)
    carried = carried_audio(description)
    left = {number: codec for number, codec in carried.codecs().items() if codec.upper() in codecs}
    _require_voice(left.values())
    if len(left) == len(carried.formats):
        return offer
    kept = tuple(text for text in carried.formats if int(text) in left)
    lines = tuple(line for line in carried.lines if not _is_of_another(line, kept))
    head = f"audio {carried.port} {carried.protocol} {' '.join(kept)}"
    only = replace(carried, head=head, formats=kept, lines=lines)
    return bytes(replace(description, media=tuple(only if media is carried else media for media in description.media)))


def _alone(offer: bytes) -> bytes:
    """The offer with no stream besides the voice; `offer` itself, when it has none."""
    description = parse(offer)
    carried = _carried(description)
    if not any(media.port for media in description.media if media is not carried):
        return offer
    return bytes(replace(description, media=tuple(
        media if media is carried else media.rejected() for media in description.media)))


def encodings(description: bytes) -> list[str]:
    """What it would send and receive, by the names of the encodings. Raises NotAcceptable, SdpError."""
    return [codec.partition("/")[0] for codec in carried_audio(parse(description)).codecs().values()]


def speaks(one: bytes, other: bytes) -> bool:
    """Whether `one` has agreed to the voice codec that `other` prefers, and so will send first (RFC 3264 §6.1)."""
    codecs = [media.codecs().values() for media in (carried_audio(parse(one)), carried_audio(parse(other)))]
    ours, theirs = ([codec.upper() for codec in each if is_voice(codec)] for each in codecs)
    return theirs[0] in ours


def _with_us(direction: Direction) -> Direction:
    return Direction.SENDONLY if direction is Direction.INACTIVE else direction


def carried_audio(description: SessionDescription) -> Media:
    """Raises NotAcceptable."""
    media = _carried(description)
    if _is_fax(media):
        raise NotAcceptable("a fax and no audio")
    return media


def _carried(description: SessionDescription) -> Media:
    """The audio, or else a fax."""
    for media in description.media:
        if media.kind == "audio" and media.port and media.protocol == PLAIN:
            return media
    for media in description.media:
        if _is_fax(media) and media.port:
            return media
    raise NotAcceptable("no plain RTP/AVP audio")


def _is_fax(media: Media) -> bool:
    return media.kind == "image" and media.protocol.upper() == FAX


def _answered(answer: SessionDescription, index: int, offered: Media) -> Media:
    # RFC 3264 §6 wants as many m= lines as were offered; phones that leave out the refused ones are understood as well.
    media = answer.media[index] if index < len(answer.media) else None
    if media is None or media.kind != offered.kind:
        media = next((each for each in answer.media if each.kind == offered.kind), None)
    if media is None or not media.port or media.protocol.upper() != offered.protocol.upper():
        raise NotAcceptable(f"the answer takes no {'audio' if offered.kind == 'audio' else 'fax'}")
    return media


def _stream(description: SessionDescription, media: Media) -> Stream:
    direction = media.direction or description.direction or Direction.SENDRECV
    connection = media.connection or description.connection
    assert connection is not None                       # parse() saw to it
    if connection.multicast:
        raise NotAcceptable("multicast is not relayed")
    if connection.unspecified:                          # hold as RFC 2543 spelt it (RFC 3264 §8.4)
        direction = direction.without_receiving
    if _is_fax(media):
        return Stream(_endpoint(media, connection), {}, direction, fax=True)
    return Stream(_endpoint(media, connection), media.codecs(), direction)


def _endpoint(media: Media, connection: Host) -> Endpoint | None:
    if connection.literal is None or connection.unspecified:
        return None
    rtcp_host, rtcp_port = connection.literal, (media.port + 1) % 65536
    match (media.attribute("rtcp") or "").split():      # RFC 3605: port, or port IN IP4 address
        case [port]:
            rtcp_port = _port(port)
        case [port, "IN", "IP4" | "IP6", address]:
            rtcp_port, announced = _port(port), host(address)
            if announced.literal is not None and not announced.multicast and not announced.unspecified:
                rtcp_host = announced.literal
    return Endpoint(connection.literal, media.port, rtcp_host, rtcp_port)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 < int(text) < 65536:
        raise SdpError(f"no such RTCP port: {text[:20]!r}")
    return int(text)


def _lines(
    media: Media, direction: Direction, formats: tuple[str, ...], face: Face, added: Iterable[str] = ()
) -> list[str]:
    """What stands below the `m=` line: the party's own lines of these formats, and `added`."""
    lines, known = list[str](), {*map(_format_of, added)}
    for line in media.lines:
        if line[0] == "c" or line in DIRECTION_LINES or _is_stripped(line):
            continue
        if _is_of_another(line, formats) or (_is_of_a_format(line) and _format_of(line) in known):
            continue
        lines.append(face.rtcp() if line.startswith("a=rtcp:") else line)
    return [*lines, *added, f"a={direction.value}"]


def _is_stripped(line: str) -> bool:
    return line[0] == "a" and line[2:].partition(":")[0] in STRIPPED


def _is_of_another(line: str, formats: tuple[str, ...]) -> bool:
    """Whether it describes a format that is none of these."""
    return _is_of_a_format(line) and _format_of(line) not in (*formats, "*")


def _is_of_a_format(line: str) -> bool:
    return line.startswith(("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"))


def _format_of(line: str) -> str:
    return line.partition(":")[2].lstrip().partition(" ")[0]


def _common(answered: Mapping[int, str], offered: Mapping[int, str]) -> dict[int, str]:
    # By encoding, not by number: an answer may map its own number to an offered encoding (RFC 3264 §6.1).
    known = {codec.upper() for codec in offered.values()}
    return {number: codec for number, codec in answered.items() if codec.upper() in known}


def _require_voice(codecs: Iterable[str]) -> None:
    if not any(map(is_voice, codecs)):
        raise NotAcceptable("no common codec")

"""One call's media session on the switch's side: descriptions are rewritten, the relay hears what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, assert_never

import structlog

from b2bua.control import Quality
from b2bua.media.plane import MediaReport, OnDigit, SdpRefused, Side, StreamReport
from b2bua.media.raw import is_recording_id
from b2bua.media.relay import wire
from b2bua.media.relay.hearing import Hearing
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plays import Plays, Tuning
from b2bua.media.relay.tones import difference
from b2bua.sdp.negotiation import Endpoint, Face, NotAcceptable, Stream, introduction, relay_answer, relay_offer
from b2bua.sdp.own import G711, own_answer, own_offer
from b2bua.sdp.session import Direction, SdpError, SessionDescription, is_events, parse

CLOSE_PATIENCE = 5.0                    # for the report, and for the disk where the call was recorded

_REMEDY = ("the call goes on; give the recordings' directory space and the right to write, the next call is recorded, "
           "and what was recorded so far is made at the next start")

log = structlog.get_logger(__name__)
T = TypeVar("T")
_INDEX = {Side.CALLER: 0, Side.CALLEE: 1}
_SIDES = Side.CALLER, Side.CALLEE


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """A session that the relay has opened ahead: the RTP port that the caller sees, and the callee's."""

    number: int
    ports: tuple[int, int]


@dataclass(slots=True)
class _Known:
    """What one side has said of itself."""

    offer: SessionDescription | None = None
    stream: Stream | None = None                    # as the relay knows it
    agreed: Stream | None = None                    # the same as of the last offer that was answered
    events: Mapping[int, str] = field(default_factory=dict)     # that we have put into its offer
    proposed: Stream | None = None                  # offered in place of another kind of media, and not answered yet
    left: bool = False

    @property
    def receives(self) -> bool:
        return self.agreed is None or self.agreed.direction.receives

    @property
    def holds(self) -> bool:
        return self.left or not self.receives


class AnchoredSession:
    """A MediaSession of the embedded relay."""

    def __init__(self, call: str, opened: OpenPorts, settings: RelaySettings, origin: int,
                 send: Callable[[wire.Command], None], sounds: Container[str]) -> None:
        self.number = opened.number
        self._call = call
        self._send = send
        self._our_hosts = {settings.bind, settings.advertised}
        self._our_ports = {port + offset for port in opened.ports for offset in (0, 1)}
        self._faces = {side: Face(settings.advertised, opened.ports[index], origin + index)
                       for side, index in _INDEX.items()}
        self._known = {side: _Known() for side in Side}
        self._plays = Plays(opened.number, send, sounds)
        self._music = ""
        self._waiting: dict[Side, bool] = {}        # who hears music on hold, and whether it yields to the other side
        self._recording = False
        self._watched = False
        self._closing = False
        self._on_digit: OnDigit | None = None
        self._hearing: tuple[Hearing, Hearing] | None = None
        loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._report: asyncio.Future[MediaReport] = loop.create_future()

    def offer(self, sdp: bytes, sender: Side) -> bytes:
        offer = _parsed(sdp)
        relayed = _relayed(lambda: relay_offer(offer, self._faces[sender.other], plays=self._plays_for(sender)))
        known = self._known[sender]
        known.offer, known.events, known.proposed = offer, relayed.events, None
        if known.stream is not None and known.stream.fax != relayed.stream.fax:
            known.proposed = relayed.stream         # refused, it leaves all as it was
        else:
            self._describe(sender, relayed.stream)
        return relayed.body

    def introduce(self, sdp: bytes, sender: Side) -> bytes:
        description = _parsed(sdp)
        return _relayed(lambda: introduction(description, self._faces[sender.other]))

    def answer(self, sdp: bytes, sender: Side) -> bytes:
        offer = self._known[sender.other].offer
        if offer is None:
            raise SdpRefused("an answer to no offer", 400)
        answer = _parsed(sdp)
        relayed = _relayed(lambda: relay_answer(answer, offer, self._faces[sender.other],
                                                 plays=bool(self._music)))
        offerer = self._known[sender.other]
        if offerer.proposed is not None:
            self._describe(sender.other, offerer.proposed)
            offerer.proposed = None
        self._describe(sender, _with_events_of(relayed.stream, offerer.events))
        self._agreed()
        return relayed.body

    def own_offer(self, to: Side) -> bytes:
        self._known[to.other].offer = own_offer()
        return relay_offer(own_offer(), self._faces[to]).body

    def own_answer(self, to: Side) -> bytes:
        offer = self._known[to].offer
        if offer is None:
            raise SdpRefused("an answer to no offer", 400)
        relayed = _relayed(lambda: relay_answer(own_answer(offer), offer, self._faces[to]))
        self._agreed()
        return relayed.body

    def cannot_play(self, sound: str, to: Side) -> str | None:
        if self._plays.lack(sound):
            return f"there is no sound {sound!r}"
        known = self._known[to]
        silent = known.offer is None and known.stream is None       # it will be made an offer of G.711
        return None if silent or self._tuning(to) is not None else "neither PCMA nor PCMU is agreed upon"

    def play(self, sound: str, to: Side, *, repeat: bool = False) -> asyncio.Future[str | None]:
        self._waiting.pop(to, None)
        return self._play(sound, to, repeat=repeat)

    def stop(self, to: Side) -> None:
        if to not in self._waiting:
            self._plays.stop(_INDEX[to])
            self._play_to_who_waits()

    def music_on_hold(self, sound: str) -> None:
        self._music = sound
        self._play_to_who_waits()

    def left(self, side: Side) -> None:
        self._known[side].left = True
        self._play_to_who_waits()

    def dial(self, digit: str, seconds: float, sender: Side) -> bool:
        caller, callee = (self._known[side].stream for side in _SIDES)
        if caller is None or callee is None or caller.fax or callee.fax:
            return False
        how = difference(caller.codecs, callee.codecs)
        if how is None or how.side != _INDEX[sender.other]:
            return False
        self._send(wire.SendDigit(self.number, how.side, digit, round(seconds * 1000)))
        return True

    def listen(self, on_digit: OnDigit | None) -> None:
        self._on_digit = on_digit

    @property
    def on_hold(self) -> bool:
        return any(known.holds for known in self._known.values())

    @property
    def quality(self) -> Quality | None:
        return None if self._hearing is None else Quality(*(side.heard for side in self._hearing))

    def arrives(self, arrival: wire.Arrival) -> None:
        """What the relay tells of it now and then, when asked."""
        if self._hearing is None:
            self._hearing = Hearing(), Hearing()
        for side, hearing in enumerate(self._hearing):
            hearing.told(arrival.packets[side], arrival.lost[side], arrival.jitter_ms[side])

    def record(self, recording: str) -> None:
        if not is_recording_id(recording):
            raise ValueError(f"not a recording id: {recording!r}")
        self._recording = True
        self._send(wire.Record(self.number, recording))

    @property
    def lost(self) -> asyncio.Future[None]:
        """The clock of the RTP time-out starts at the first look, so that long ringing is no time-out."""
        if not self._watched:
            self._watched = True
            self._send(wire.Watch(self.number))
        return self._lost

    async def close(self) -> MediaReport:
        if not self._closing:
            self._closing = True
            self._send(wire.Close(self.number))
        await asyncio.wait([self._report], timeout=CLOSE_PATIENCE)      # unlike wait_for, it cancels nothing
        if self._report.done():
            return self._report.result()
        log.warning("no report from the media relay", call=self._call, waited=CLOSE_PATIENCE)
        return MediaReport(recorded=self._recording)

    def hear(self, event: wire.Silent | wire.Played | wire.Pressed | wire.RecordingStopped | wire.Closed) -> None:
        """What the relay tells of this session."""
        match event:
            case wire.Silent():
                log.info("no RTP for too long", call=self._call)
                _settle(self._lost, None)
            case wire.Played(_, side, number):
                self._plays.played(side, number)
            case wire.Pressed(_, side, digit, milliseconds):
                if self._on_digit is not None:
                    self._on_digit(_SIDES[side], digit, milliseconds / 1000)
            case wire.RecordingStopped(_, recording, why):
                log.error("recording stopped", call=self._call, recording=recording, why=why, remedy=_REMEDY)
            case wire.Closed(_, caller, callee, recorded):
                _settle(self._report, MediaReport(_stream_report(caller), _stream_report(callee), recorded))
            case _:
                assert_never(event)

    def relay_is_gone(self) -> None:
        self._plays.end("the media relay is gone")
        _settle(self._lost, None)
        _settle(self._report, MediaReport(recorded=self._recording))

    def _describe(self, side: Side, stream: Stream) -> None:
        known = self._known[side]
        if known.stream == stream:
            return
        known.stream = stream
        endpoint = self._reachable(stream.endpoint)
        self._send(wire.Remote(
            self.number, _INDEX[side], endpoint.host, endpoint.port, endpoint.rtcp_host, endpoint.rtcp_port,
            {str(number): codec for number, codec in stream.codecs.items()}, stream.on_hold, stream.fax))

    # -- what is played

    def _plays_for(self, sender: Side) -> bool:
        """Whether the other side would hear music, should this one stop sending; not while it holds by itself."""
        return bool(self._music) and not self._known[sender.other].holds

    def _agreed(self) -> None:
        """Offer and answer are complete."""
        for known in self._known.values():
            known.left = False
            known.agreed = known.stream
        for side in Side:
            self._plays.tune(_INDEX[side], self._tuning(side), self._known[side].receives)
        self._play_to_who_waits()

    def _play_to_who_waits(self) -> None:
        """Music for whoever is on hold and listens; nobody's when both hold (RFC 3264 §8.4)."""
        for side in Side:
            holder = self._known[side.other]
            waits = bool(self._music) and holder.holds and not self._known[side].holds
            if not waits:
                if self._waiting.pop(side, None) is not None:
                    self._plays.stop(_INDEX[side])
                continue
            # A phone that holds by sendonly may have music of its own: that goes first. Whoever says that it sends
            # nothing, or has no address, is not heard.
            stream = holder.agreed
            yields = not holder.left and stream is not None and stream.endpoint is not None \
                and stream.direction is Direction.SENDONLY
            busy = self._plays.busy(_INDEX[side])
            if not busy or (side in self._waiting and self._waiting[side] is not yields):
                self._waiting[side] = yields
                self._play(self._music, side, repeat=True, yields=yields)

    def _play(self, sound: str, to: Side, *, repeat: bool, yields: bool = False) -> asyncio.Future[str | None]:
        why = self.cannot_play(sound, to)
        if why is not None:
            log.warning("sound not played", call=self._call, sound=sound, to=to.value, why=why)
        return self._plays.play(_INDEX[to], sound, why or self._tuning(to), repeat=repeat, yields=yields,
                                listens=self._known[to].receives)

    def _tuning(self, side: Side) -> Tuning | None:
        """How that side can be played to: the first of its G.711 payload types that the other side has as well."""
        here, there = self._known[side].agreed or self._known[side].stream, self._known[side.other].agreed
        if here is None:
            return None
        common = None if there is None else {codec.upper() for codec in there.codecs.values()}
        for number, codec in here.codecs.items():
            if codec.upper() in G711 and (common is None or codec.upper() in common):
                return Tuning(number, codec.upper() == "PCMU/8000")
        return None

    def _reachable(self, endpoint: Endpoint | None) -> Endpoint:
        """Only what our sockets can send to, and never our own ports: a packet would go round for ever."""
        nowhere = Endpoint("", 0, "", 0)
        if endpoint is None or not self._same_family(endpoint.host):
            return nowhere
        if endpoint.host in self._our_hosts and {endpoint.port, endpoint.rtcp_port} & self._our_ports:
            log.warning("media described as our own", call=self._call, port=endpoint.port)
            return nowhere
        if not self._same_family(endpoint.rtcp_host):
            return Endpoint(endpoint.host, endpoint.port, "", 0)
        return endpoint

    def _same_family(self, host: str) -> bool:
        return all((":" in host) == (":" in ours) for ours in self._our_hosts)


def _with_events_of(stream: Stream, offered: Mapping[int, str]) -> Stream:
    """Who answers by another number sends by the one that it was offered (RFC 3264 §5.1), or by its own."""
    if not any(map(is_events, stream.codecs.values())):
        return stream
    more = {number: codec for number, codec in offered.items() if number not in stream.codecs}
    return replace(stream, codecs={**stream.codecs, **more})


def _parsed(sdp: bytes) -> SessionDescription:
    try:
        return parse(sdp)
    except SdpError as error:
        raise SdpRefused(str(error), 400) from error


def _relayed(rewrite: Callable[[], T]) -> T:
    try:
        return rewrite()
    except NotAcceptable as error:
        raise SdpRefused(str(error), 488) from error
    except SdpError as error:
        raise SdpRefused(str(error), 400) from error


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _stream_report(report: wire.Direction) -> StreamReport:
    return StreamReport(report.packets, report.octets, report.lost, report.jitter_ms, report.foreign, report.codec)

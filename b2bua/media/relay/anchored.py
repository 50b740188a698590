"""One call's media session on the switch's side: descriptions are rewritten, the relay hears what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, assert_never

import structlog

from b2bua.media.plane import MediaReport, OnDigit, SdpRefused, Side, StreamReport
from b2bua.media.raw import is_recording_id
from b2bua.media.relay import wire
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.tones import difference
from b2bua.sdp.negotiation import Endpoint, Face, NotAcceptable, Relayed, Stream, relay_answer, relay_offer
from b2bua.sdp.session import SdpError, SessionDescription, is_events, parse

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
    stream: Stream | None = None        # as the relay knows it
    events: Mapping[int, str] = field(default_factory=dict)     # that we have put into its offer
    proposed: Stream | None = None      # offered in place of another kind of media, and not answered yet


class AnchoredSession:
    """A MediaSession of the embedded relay."""

    def __init__(self, call: str, opened: OpenPorts, settings: RelaySettings, origin: int,
                 send: Callable[[wire.Command], None]) -> None:
        self.number = opened.number
        self._call = call
        self._send = send
        self._our_hosts = {settings.bind, settings.advertised}
        self._our_ports = {port + offset for port in opened.ports for offset in (0, 1)}
        self._faces = {side: Face(settings.advertised, opened.ports[index], origin + index)
                       for side, index in _INDEX.items()}
        self._known = {side: _Known() for side in Side}
        self._recording = False
        self._watched = False
        self._closing = False
        self._on_digit: OnDigit | None = None
        loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._report: asyncio.Future[MediaReport] = loop.create_future()

    def offer(self, sdp: bytes, sender: Side) -> bytes:
        offer = _parsed(sdp)
        relayed = _relayed(lambda: relay_offer(offer, self._faces[sender.other]))
        known = self._known[sender]
        known.offer, known.events, known.proposed = offer, relayed.events, None
        if known.stream is not None and known.stream.fax != relayed.stream.fax:
            known.proposed = relayed.stream         # refused, it leaves all as it was
        else:
            self._describe(sender, relayed.stream)
        return relayed.body

    def answer(self, sdp: bytes, sender: Side) -> bytes:
        offer = self._known[sender.other].offer
        if offer is None:
            raise SdpRefused("an answer to no offer", 400)
        answer = _parsed(sdp)
        relayed = _relayed(lambda: relay_answer(answer, offer, self._faces[sender.other]))
        offerer = self._known[sender.other]
        if offerer.proposed is not None:
            self._describe(sender.other, offerer.proposed)
            offerer.proposed = None
        self._describe(sender, _with_events_of(relayed.stream, offerer.events))
        return relayed.body

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

    def hear(self, event: wire.Silent | wire.Pressed | wire.RecordingStopped | wire.Closed) -> None:
        """What the relay tells of this session."""
        match event:
            case wire.Silent():
                log.info("no RTP for too long", call=self._call)
                _settle(self._lost, None)
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


def _relayed(rewrite: Callable[[], Relayed]) -> Relayed:
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

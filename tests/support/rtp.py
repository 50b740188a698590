"""Ends of a media session on loopback: a UDP socket that sends RTP, and remembers what came."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

CAPTURES = Path(__file__).parents[1] / "corpora" / "rtp"
FRAME = 160
MAX_DATAGRAM = 8192
_ETHERNET_IP_UDP = 14 + 20 + 8
Address = tuple[str, int]


class RtpEnd:
    """`with RtpEnd("127.0.0.41") as phone`: an even RTP port, and the RTCP port above it."""

    def __init__(self, host: str = "127.0.0.41", ssrc: int = 7) -> None:
        self.host = host
        self.rtp, self.rtcp = _pair(host)
        self.port: int = self.rtp.getsockname()[1]
        self._ssrc = ssrc
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rtp.close()
        self.rtcp.close()

    @property
    def address(self) -> Address:
        return self.host, self.port

    def describe(self, codecs: str = "8 101", extra: str = "", host: str = "") -> bytes:
        host = host or self.host
        return (f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
                f"m=audio {self.port} RTP/AVP {codecs}\r\na=rtpmap:101 telephone-event/8000\r\n{extra}").encode()

    def packet(self, payload: bytes = b"\x55" * FRAME, payload_type: int = 8) -> bytes:
        self._sequence += 1
        timestamp = self._sequence * FRAME & 0xFFFFFFFF
        return struct.pack(">BBHII", 0x80, payload_type, self._sequence & 0xFFFF, timestamp, self._ssrc) + payload

    def send(self, to: Address, packet: bytes | None = None) -> bytes:
        sent = self.packet() if packet is None else packet
        self.rtp.sendto(sent, to)
        return sent

    async def receive(self, patience: float = 3.0) -> bytes:
        return (await self.receive_from(patience))[0]

    async def receive_from(self, patience: float = 3.0) -> tuple[bytes, Address]:
        await _readable(self.rtp, patience)
        data, source = self.rtp.recvfrom(MAX_DATAGRAM)
        return data, source

    async def receive_control(self, patience: float = 3.0) -> bytes:
        await _readable(self.rtcp, patience)
        return self.rtcp.recv(MAX_DATAGRAM)

    def waiting(self) -> int:
        """Takes what has come until now, and says how much."""
        count = 0
        while True:
            try:
                self.rtp.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return count
            count += 1


async def _readable(sock: socket.socket, patience: float) -> None:
    """Of both loops: uvloop knows no sock_recvfrom."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: arrived.done() or arrived.set_result(None))
    try:
        async with asyncio.timeout(patience):
            await arrived
    finally:
        loop.remove_reader(sock.fileno())


def audio_address(sdp: bytes) -> Address:
    """Where a description wants its audio."""
    port, host = re.search(rb"m=audio (\d+)", sdp), re.search(rb"c=IN IP\d (\S+)", sdp)
    assert port is not None
    assert host is not None
    return host[1].decode(), int(port[1])


def capture(name: str) -> list[tuple[float, bytes]]:
    """(seconds since the first, datagram) of a classic pcap of Ethernet, IPv4 and UDP."""
    data = (CAPTURES / name).read_bytes()
    packets = list(_records(data))
    return [(at - packets[0][0], packet[_ETHERNET_IP_UDP:]) for at, packet in packets]


def captures() -> list[dict[str, object]]:
    index: list[dict[str, object]] = json.loads((CAPTURES / "index.json").read_text())["captures"]
    return index


def _records(data: bytes) -> Iterator[tuple[float, bytes]]:
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    at = 24
    while at < len(data):
        seconds, micros, length, _ = struct.unpack_from(f"{order}IIII", data, at)
        yield seconds + micros / 1e6, data[at + 16 : at + 16 + length]
        at += 16 + length


def _pair(host: str) -> tuple[socket.socket, socket.socket]:
    while True:
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.bind((host, 0))
        port = rtp.getsockname()[1]
        try:
            if port % 2 == 0:
                rtcp.bind((host, port + 1))
                rtp.setblocking(False)
                rtcp.setblocking(False)
                return rtp, rtcp
        except OSError:
            pass
        rtp.close()
        rtcp.close()

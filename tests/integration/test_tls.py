"""TLS on real sockets: who is let in, who is believed, what a hanging or hostile peer costs, and new certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b2bua.net.certificates import CertificateFiles, ServerIdentity, UnusableCertificate
from b2bua.net.streams import StreamLimits
from b2bua.net.tls import TlsTransport
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from tests.support.certificates import DAY, Authority, dns, ip, uri

pytestmark = pytest.mark.both_loops

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def message(call_id: str = "1", body: bytes = b"") -> bytes:
    return (
        f"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK1\r\nCall-ID: {call_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Sink:
    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.failures: asyncio.Queue[Flow] = asyncio.Queue()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.messages.put_nowait((data, flow))

    def on_failure(self, flow: Flow) -> None:
        self.failures.put_nowait(flow)


class Ours:
    def __init__(self, transport: TlsTransport, sink: Sink, identity: ServerIdentity) -> None:
        self.transport = transport
        self.sink = sink
        self.identity = identity

    @asynccontextmanager
    async def peer(self, context: ssl.SSLContext) -> AsyncIterator[Streams]:
        """Somebody who connects to us."""
        reader, writer = await asyncio.open_connection(*self.transport.local, ssl=context, server_hostname="pbx.test")
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def refused(self, flow: Flow) -> str:
        """Why what we send there does not get there."""
        self.transport.send(message(), flow)
        assert await self.sink.failures.get() == flow
        assert flow.peer is not None
        assert self.transport.counters.dropped_unsent == 1
        return self.transport.trouble(flow.peer)


@asynccontextmanager
async def listening(files: CertificateFiles, limits: StreamLimits | None = None) -> AsyncIterator[Ours]:
    sink = Sink()
    async with asyncio.TaskGroup() as tasks:
        transport = TlsTransport(sink, tasks, limits)
        identity = ServerIdentity(files)
        try:
            await transport.listen(Address("127.0.0.1", 0), identity)
            yield Ours(transport, sink, identity)
        finally:
            transport.close()


@asynccontextmanager
async def an_operator(context: ssl.SSLContext) -> AsyncIterator[tuple[Address, asyncio.Queue[Streams]]]:
    """Somebody whom we connect to."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await accepted.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield Address(*server.sockets[0].getsockname()), accepted
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pbx(authority: Authority) -> CertificateFiles:
    return authority.issue("pbx", *dns("pbx.test"))


# -- those who come


async def test_messages_come_and_go_whatever_their_size(authority: Authority, pbx: CertificateFiles) -> None:
    async with listening(pbx) as ours, ours.peer(authority.client()) as (reader, writer):
        large = message("1", b"x" * 60_000)                         # four TLS records
        writer.write(large + message("2"))
        (first, flow), (second, again) = await ours.sink.messages.get(), await ours.sink.messages.get()
        assert (first, second, flow) == (large, message("2"), again)
        assert (flow.transport, flow.peer) == (Transport.TLS, None)
        assert flow.remote == Address(*writer.get_extra_info("sockname"))
        ours.transport.send(large, flow)
        assert await reader.readexactly(len(large)) == large


async def test_a_ping_is_answered_with_a_pong(authority: Authority, pbx: CertificateFiles) -> None:
    async with listening(pbx) as ours, ours.peer(authority.client()) as (reader, writer):
        writer.write(message() + b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        assert ours.transport.counters.keep_alives == 2


async def test_the_end_of_a_connection_is_told(authority: Authority, pbx: CertificateFiles) -> None:
    async with listening(pbx) as ours:
        async with ours.peer(authority.client()) as (_, writer):
            writer.write(message())
            _, flow = await ours.sink.messages.get()
        assert await ours.sink.failures.get() == flow
        ours.transport.send(message(), flow._replace(connection=0))     # nobody could prove to be that phone
        assert (await ours.sink.failures.get()).remote == flow.remote


@pytest.mark.parametrize(
    "garbage",
    [b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"\x16\x03\x01\xff\xff"],
    ids=["sip in the clear", "http", "noise", "a record cut short"],
)
async def test_what_is_no_tls_loses_its_connection(authority: Authority, pbx: CertificateFiles, garbage: bytes) -> None:
    async with listening(pbx) as ours:
        reader, writer = await asyncio.open_connection(*ours.transport.local)
        writer.write(garbage)
        writer.write_eof()
        with suppress(ConnectionResetError):
            while await reader.read(1000):                          # an alert may come first
                pass
        writer.close()
        async with ours.peer(authority.client()) as (_, other):     # and the next is served
            other.write(message())
            await ours.sink.messages.get()
        assert ours.transport.counters.failed_handshakes == 1
        assert len(ours.transport) == 1


async def test_a_handshake_that_hangs_is_ended(pbx: CertificateFiles) -> None:
    async with listening(pbx, StreamLimits(handshake_time=0.05)) as ours:
        reader, writer = await asyncio.open_connection(*ours.transport.local)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert ours.transport.counters.failed_handshakes == 1


async def test_handshakes_are_limited_by_address(authority: Authority, pbx: CertificateFiles) -> None:
    limits = StreamLimits(handshakes_per_address=2, handshake_time=30.0)
    async with listening(pbx, limits) as ours:
        hanging = [await asyncio.open_connection(*ours.transport.local) for _ in range(2)]
        refused, _ = third = await asyncio.open_connection(*ours.transport.local)
        with suppress(ConnectionResetError):
            assert await refused.read() == b""
        assert ours.transport.counters.refused_connections == 1
        elsewhere = await asyncio.open_connection(
            *ours.transport.local, ssl=authority.client(), server_hostname="pbx.test", local_addr=("127.0.0.2", 0)
        )
        elsewhere[1].write(message())
        await ours.sink.messages.get()
        for _, writer in (*hanging, third, elsewhere):
            writer.transport.abort()


async def test_old_versions_are_refused(authority: Authority, pbx: CertificateFiles) -> None:
    old = authority.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening(pbx) as ours:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with ours.peer(old):
                pass


async def test_a_listener_may_demand_certificates(authority: Authority, pbx: CertificateFiles, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Another CA").issue("stranger")
    files = CertificateFiles(pbx.certificate, pbx.key, authority.file)
    async with listening(files) as ours:
        async with ours.peer(authority.client(authority.issue("phone"))) as (_, writer):
            writer.write(message())
            await ours.sink.messages.get()
        for shown in (None, stranger):
            with suppress(ssl.SSLError, ConnectionError):           # TLS 1.3 tells it with the first read
                async with ours.peer(authority.client(shown)) as (reader, writer):
                    writer.write(message())
                    assert await reader.read() == b""
        assert ours.transport.counters.failed_handshakes == 2
        assert ours.sink.messages.empty()


async def test_a_peer_that_does_not_read_loses_its_connection(authority: Authority, pbx: CertificateFiles) -> None:
    async with listening(pbx, StreamLimits(unsent=50_000)) as ours, ours.peer(authority.client()) as (_, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
        while not ours.transport.counters.unsent_closed:
            ours.transport.send(b"x" * 60_000, flow)
            await asyncio.sleep(0)
        assert await ours.sink.failures.get() == flow


async def test_closing_lets_the_last_words_out(authority: Authority, pbx: CertificateFiles) -> None:
    async with listening(pbx) as ours, ours.peer(authority.client()) as (reader, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
        ours.transport.send(b"SIP/2.0 503 Over\r\n\r\n", flow)
        ours.transport.close()
        assert await reader.read() == b"SIP/2.0 503 Over\r\n\r\n"


async def test_two_listeners_share_one_transport_and_mix_nobody_up(
    authority: Authority, pbx: CertificateFiles
) -> None:
    async with listening(pbx) as ours, ours.peer(authority.client()) as (reader, writer):
        second = await ours.transport.listen(Address("127.0.0.3", 0), ServerIdentity(authority.issue("other")))
        other_reader, other = await asyncio.open_connection(
            *second, ssl=authority.client(), server_hostname="other.test"
        )
        writer.write(message("1"))
        _, one = await ours.sink.messages.get()
        other.write(message("2"))
        _, two = await ours.sink.messages.get()
        assert one.connection != two.connection
        assert (one.local, two.local) == (ours.transport.local, second)
        ours.transport.send(b"to one", one)
        ours.transport.send(b"to two", two)
        assert (await reader.readexactly(6), await other_reader.readexactly(6)) == (b"to one", b"to two")
        other.transport.abort()


# -- new certificates


def shown_by(writer: asyncio.StreamWriter) -> int:
    return int(writer.get_extra_info("peercert")["serialNumber"], 16)


async def test_a_renewed_certificate_is_taken_and_connections_that_are_up_stay(
    authority: Authority, pbx: CertificateFiles
) -> None:
    async with listening(pbx) as ours, ours.peer(authority.client()) as (reader, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
        before = shown_by(writer)
        authority.issue("pbx", *dns("pbx.test"), until=60 * DAY)
        await asyncio.to_thread(ours.identity.refresh, datetime.now(UTC))
        async with ours.peer(authority.client()) as (_, later):
            assert shown_by(later) != before
        ours.transport.send(b"still here", flow)
        assert await reader.readexactly(10) == b"still here"
        assert ours.identity.good_until is not None
        assert ours.identity.good_until > datetime.now(UTC) + 50 * DAY


@pytest.mark.parametrize("fault", ["broken", "expired", "key of another", "gone"])
async def test_a_new_file_that_is_no_good_keeps_the_old_one_and_says_what_to_do(
    authority: Authority, pbx: CertificateFiles, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(pbx) as ours:
        async with ours.peer(authority.client()) as (_, writer):
            before = shown_by(writer)
        match fault:
            case "broken":
                pbx.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
            case "expired":
                authority.issue("pbx", *dns("pbx.test"), since=-3 * DAY, until=-2 * DAY)
            case "key of another":
                pbx.key.write_bytes(authority.issue("another").key.read_bytes())
            case "gone":
                pbx.certificate.unlink()
        for _ in range(2):                                          # told once, not at every look
            await asyncio.to_thread(ours.identity.refresh, datetime.now(UTC))
        async with ours.peer(authority.client()) as (_, writer):
            assert shown_by(writer) == before
        (record,) = [one for one in caplog.records if "not taken" in one.getMessage()]
        assert record.levelname == "ERROR"
        assert {"broken": "It has to be PEM text", "expired": "Renew it", "key of another": "Name the key",
                "gone": "Give the right path"}[fault] in record.__dict__["why"]     # fmt: skip
        authority.issue("pbx", *dns("pbx.test"))                     # mended
        await asyncio.to_thread(ours.identity.refresh, datetime.now(UTC))
        async with ours.peer(authority.client()) as (_, writer):
            assert shown_by(writer) != before


async def test_a_listener_does_not_begin_with_an_encrypted_key(authority: Authority) -> None:
    with pytest.raises(UnusableCertificate, match=r"locked\.key"):
        ServerIdentity(authority.issue("locked", passphrase=b"secret"))


# -- those whom we call


def operator(authority: Authority, *names: str, shown: CertificateFiles | None = None) -> TlsPeer:
    mine = ("", "") if shown is None else (str(shown.certificate), str(shown.key))
    return TlsPeer(names or ("operator.test",), str(authority.file), *mine)


async def test_a_request_to_an_operator_that_proves_its_name_goes_out_and_the_connection_is_kept(
    authority: Authority, pbx: CertificateFiles
) -> None:
    context = authority.server(authority.issue("operator", *dns("operator.test")))
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with an_operator(context) as (there, accepted), listening(pbx) as ours:
        peer = operator(authority)
        flow = ours.transport.flow_for(there, peer)
        assert flow == Flow(Transport.TLS, ours.transport.local, there, 0, peer)
        ours.transport.send(message("1"), flow)
        ours.transport.send(message("2"), flow)
        reader, writer = await accepted.get()
        assert await reader.readexactly(2 * len(message())) == message("1") + message("2")
        writer.write(message("3"))
        _, theirs = await ours.sink.messages.get()
        assert ours.transport.flow_for(there, peer) == theirs
        assert theirs.peer == peer
        ours.transport.send(message("4"), flow)
        assert await reader.readexactly(len(message())) == message("4")
        assert accepted.empty()
        assert asked == ["operator.test"]


async def test_a_connection_proved_to_one_serves_no_other(authority: Authority, pbx: CertificateFiles) -> None:
    context = authority.server(authority.issue("operator", *dns("operator.test")))
    async with an_operator(context) as (there, accepted), listening(pbx) as ours:
        ours.transport.send(message(), ours.transport.flow_for(there, operator(authority)))
        await accepted.get()
        other = ours.transport.flow_for(there, operator(authority, "bank.test"))
        assert other.connection == 0
        assert "operator.test, not bank.test" in await ours.refused(other)


@pytest.mark.parametrize(
    ("names", "wanted", "good"),
    [
        (dns("operator.test"), ("sbc7.operator.test", "operator.test"), True),      # next hop, and domain
        (dns("OPERATOR.test"), ("operator.TEST",), True),
        (dns("sip.operator.test"), ("operator.test",), False),
        (dns("*.operator.test"), ("sbc7.operator.test",), True),
        (dns("*.operator.test"), ("a.b.operator.test",), False),
        (dns("*.operator.test"), ("operator.test",), False),
        (uri("sip:operator.test"), ("operator.test",), True),
        ([*uri("sip:other.test"), *dns("operator.test")], ("operator.test",), False),   # RFC 5922 §7.1: URIs first
        ([*uri("https://other.test"), *dns("operator.test")], ("operator.test",), True),
        (uri("sip:admin@operator.test"), ("operator.test",), False),
        (ip("127.0.0.1"), ("127.0.0.1",), True),
        (ip("127.0.0.9"), ("127.0.0.1",), False),
        ([], ("operator.test",), False),
    ],
)
async def test_who_the_far_end_must_be(
    authority: Authority, pbx: CertificateFiles, names: list[object], wanted: tuple[str, ...], good: bool
) -> None:
    context = authority.server(authority.issue("operator", *names))     # type: ignore[arg-type]
    async with an_operator(context) as (there, accepted), listening(pbx) as ours:
        flow = ours.transport.flow_for(there, operator(authority, *wanted))
        if good:
            ours.transport.send(message(), flow)
            reader, _ = await accepted.get()
            assert await reader.readexactly(len(message())) == message()
        else:
            assert "its certificate names" in await ours.refused(flow)
            assert ours.transport.counters.failed_handshakes == 1
            assert len(ours.transport) == 0


async def test_a_certificate_of_nobody_we_trust_is_refused(
    authority: Authority, pbx: CertificateFiles, tmp_path: Path
) -> None:
    context = authority.server(Authority(tmp_path, "Another CA").issue("operator", *dns("operator.test")))
    async with an_operator(context) as (there, _), listening(pbx) as ours:
        trouble = await ours.refused(ours.transport.flow_for(there, operator(authority)))
        assert "its certificate is refused: unable to get local issuer certificate" in trouble


async def test_an_expired_certificate_is_refused(authority: Authority, pbx: CertificateFiles) -> None:
    expired = authority.issue("operator", *dns("operator.test"), since=-3 * DAY, until=-2 * DAY)
    async with an_operator(authority.server(expired)) as (there, _), listening(pbx) as ours:
        trouble = await ours.refused(ours.transport.flow_for(there, operator(authority)))
        assert trouble == "its certificate is refused: certificate has expired"


async def test_a_far_end_that_speaks_no_tls_is_a_failure(authority: Authority, pbx: CertificateFiles) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening(pbx) as ours:
        there = Address(*server.sockets[0].getsockname())
        assert "TLS fails" in await ours.refused(ours.transport.flow_for(there, operator(authority)))
    server.close()


async def test_a_far_end_that_does_not_shake_hands_is_given_up(authority: Authority, pbx: CertificateFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with listening(pbx, StreamLimits(connect_time=0.1)) as ours:
            flow = ours.transport.flow_for(Address(*silent.getsockname()), operator(authority))
            assert await ours.refused(flow) == "no TLS connection in time"


async def test_mutual_tls_shows_our_certificate_to_who_demands_it(authority: Authority, pbx: CertificateFiles) -> None:
    context = authority.server(authority.issue("operator", *dns("operator.test")), demands=True)
    async with an_operator(context) as (there, accepted), listening(pbx) as ours:
        mine = authority.issue("client", *dns("pbx.test"))
        ours.transport.send(message(), ours.transport.flow_for(there, operator(authority, shown=mine)))
        reader, writer = await accepted.get()
        assert await reader.readexactly(len(message())) == message()
        assert dict(writer.get_extra_info("peercert")["subjectAltName"]) == {"DNS": "pbx.test"}
        without = ours.transport.flow_for(there, operator(authority))
        ours.transport.send(message(), without)
        failed = await ours.sink.failures.get()
        assert failed.peer == without.peer
        assert without.peer is not None
        assert "maybe it wants a certificate of ours" in ours.transport.trouble(without.peer)


async def test_new_files_of_a_trunk_are_read_when_it_connects(authority: Authority, pbx: CertificateFiles) -> None:
    context = authority.server(authority.issue("operator", *dns("operator.test")), demands=True)
    async with an_operator(context) as (there, accepted), listening(pbx) as ours:
        mine = authority.issue("client")
        flow = ours.transport.flow_for(there, operator(authority, shown=mine))
        serials = []
        for _ in range(2):
            ours.transport.send(message(), flow)
            reader, writer = await accepted.get()
            await reader.readexactly(len(message()))
            serials.append(shown_by(writer))
            writer.transport.abort()
            await ours.sink.failures.get()
            authority.issue("client")
        assert serials[0] != serials[1]


async def test_a_trunk_whose_files_are_missing_says_so(authority: Authority, pbx: CertificateFiles) -> None:
    async with an_operator(authority.server(pbx)) as (there, _), listening(pbx) as ours:
        peer = TlsPeer(("operator.test",), "/nowhere/ca.pem")
        assert "/nowhere/ca.pem" in await ours.refused(ours.transport.flow_for(there, peer))


def test_a_certificate_tells_until_when_it_is_good(authority: Authority, pbx: CertificateFiles) -> None:
    until = ServerIdentity(pbx).good_until
    assert until is not None
    assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)

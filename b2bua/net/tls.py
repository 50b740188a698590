"""SIP over TLS (RFC 3261 §26.3.1, RFC 5922): streams with bounded handshakes, and the right one at the far end.

Connections are accepted here, not by asyncio's server, so that strangers who connect and do not shake hands are counted
and limited before any TLS state is made for them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from typing import Final

from b2bua.net.certificates import ClientContexts, ServerIdentity, names_any
from b2bua.net.streams import Connection, StreamLimits, StreamTransport, listening_socket
from b2bua.net.transport import Judge, LocalAddress, TransportSink, all_are_known
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport

ACCEPT_AGAIN: Final = 0.5               # seconds, when the process is out of files
MAX_NAMES_TOLD: Final = 8               # of a certificate that names somebody else
MAX_TROUBLES: Final = 256               # peers whose last trouble is known

log = logging.getLogger(__name__)


class TlsTransport(StreamTransport):
    kind = Transport.TLS

    def __init__(
        self,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        limits: StreamLimits | None = None,
        judge: Judge = all_are_known,
    ) -> None:
        super().__init__(sink, tasks, limits, judge)
        self.identities: list[ServerIdentity] = []
        self._contexts = ClientContexts()
        self._shaking: Counter[str] = Counter()             # peers that came and are not through their handshake
        self._troubles: dict[TlsPeer, str] = {}

    async def listen(self, local: Address, identity: ServerIdentity, *, advertise: str | None = None) -> Address:
        """Raises OSError when the address is taken or not ours; returns where it really listens."""
        server = listening_socket(local)
        try:
            server.listen(self.limits.backlog)
            shown = self._listens(server, advertise)
            accepting = self._start(self._accept(server, identity, shown), f"tls accept {local.host}")
            accepting.add_done_callback(lambda _: server.close())
            self.identities.append(identity)
            return Address(*server.getsockname()[:2])
        except BaseException:
            server.close()
            raise

    def admit(self, connection: Connection, remote: Address) -> bool:
        peer = connection.peer
        if peer is not None and not names_any(connection.names, peer.names):
            named = ", ".join(name for _, name in connection.names[:MAX_NAMES_TOLD]) or "nobody"
            self._failed(peer, remote, f"its certificate names {named}, not {' or '.join(peer.names)}")
            return False
        return super().admit(connection, remote)

    def lost(self, connection: Connection) -> None:
        if connection.peer is not None and connection.flow is not None and not connection.greeted:
            # By TLS 1.3 a client is through its handshake before the server has looked at its certificate.
            ours = "refuses our certificate" if connection.peer.certificate else "wants a certificate of ours"
            self._trouble(connection.peer, f"it closed the TLS connection before it said anything; maybe it {ours}")
        super().lost(connection)

    def trouble(self, peer: TlsPeer) -> str:
        return self._troubles.get(peer, "")

    # -- those who come

    async def _accept(self, server: socket.socket, identity: ServerIdentity, shown: LocalAddress) -> None:
        while True:
            try:
                stream, source = await self._loop.sock_accept(server)
            except OSError as error:            # out of files, or the peer is gone again
                log.warning("TLS connection not accepted", extra={"why": str(error)})
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            if self.bans(source[:2]):
                self.counters.banned_closed += 1
                stream.close()
            elif self._may_shake(source[0]):
                self._shaking[source[0]] += 1
                self._start(self._shake_hands(stream, source[0], identity, shown), f"tls handshake {source[0]}")
            else:
                self.counters.refused_connections += 1
                stream.close()
            await asyncio.sleep(0)              # what waits in the backlog is taken without waiting otherwise

    def _may_shake(self, host: str) -> bool:
        limits = self.limits
        return (
            self._shaking.total() < limits.handshakes
            and self._shaking[host] < limits.handshakes_per_address
            and len(self) < limits.connections
        )

    async def _shake_hands(
        self, stream: socket.socket, host: str, identity: ServerIdentity, shown: LocalAddress
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self, shown),
                stream,
                ssl=identity.context,
                ssl_handshake_timeout=self.limits.handshake_time,
                ssl_shutdown_timeout=self.limits.shutdown_time,
            )
        except OSError as error:                # SSLError, a reset, and asyncio's word for a handshake out of time
            self.counters.failed_handshakes += 1
            log.debug("TLS handshake failed", extra={"source": host, "why": str(error)})
        finally:
            self._shaking[host] -= 1
            if not self._shaking[host]:
                del self._shaking[host]

    # -- those whom we call

    async def _make(self, flow: Flow) -> Connection:
        peer = flow.peer
        if peer is None:                        # a phone whose connection is gone: it has no name that it could prove
            raise ConnectionRefusedError("nobody knows who should be there")
        context = await self._contexts.of(peer)
        _, connection = await self._loop.create_connection(
            lambda: Connection(self, self._shown, peer),
            *flow.remote,
            local_addr=self._source,
            ssl=context,
            server_hostname=peer.names[0],
            ssl_handshake_timeout=self.limits.handshake_time,
            ssl_shutdown_timeout=self.limits.shutdown_time,
        )
        if connection.flow is not None:
            self._troubles.pop(peer, None)
        return connection

    def _not_made(self, flow: Flow, error: Exception) -> None:
        super()._not_made(flow, error)
        if flow.peer is None:
            return
        match error:
            case ssl.SSLCertVerificationError(verify_message=why):
                self._failed(flow.peer, flow.remote, f"its certificate is refused: {why}")
            case ssl.SSLError(reason=why):
                self._failed(flow.peer, flow.remote, f"TLS fails: {why}")
            case TimeoutError():
                self._trouble(flow.peer, "no TLS connection in time")
            case _:
                self._trouble(flow.peer, f"no TLS connection: {error}")

    def _failed(self, peer: TlsPeer, remote: Address, why: str) -> None:
        self.counters.failed_handshakes += 1
        self._trouble(peer, why)
        log.warning(
            "TLS peer refused",
            extra={
                "peer": " or ".join(peer.names), "remote": f"{remote.host}:{remote.port}", "why": why,
                "remedy": "see the trunk's host, domain and ca_file, and ask the operator which certificate it shows",
            },
        )   # fmt: skip

    def _trouble(self, peer: TlsPeer, why: str) -> None:
        if peer not in self._troubles and len(self._troubles) >= MAX_TROUBLES:
            self._troubles.pop(next(iter(self._troubles)))
        self._troubles[peer] = why

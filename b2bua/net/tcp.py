"""SIP over TCP (RFC 3261 §18)."""

from __future__ import annotations

import asyncio

from b2bua.net.streams import Connection, StreamLimits, StreamTransport, listening_socket
from b2bua.net.transport import Judge, TransportSink, all_are_known
from b2bua.sip.effects import Address, Flow, Transport


class TcpTransport(StreamTransport):
    kind = Transport.TCP

    def __init__(
        self,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        limits: StreamLimits | None = None,
        judge: Judge = all_are_known,
    ) -> None:
        super().__init__(sink, tasks, limits, judge)
        self._servers: list[asyncio.Server] = []

    @classmethod
    async def open(
        cls,
        local: Address,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        *,
        advertise: str | None = None,
        limits: StreamLimits | None = None,
    ) -> TcpTransport:
        """With one listening socket. Raises OSError when the address is taken or not ours."""
        transport = cls(sink, tasks, limits)
        try:
            await transport.listen(local, advertise=advertise)
        except BaseException:
            transport.close()
            raise
        return transport

    async def listen(self, local: Address, *, advertise: str | None = None) -> Address:
        """Raises OSError when the address is taken or not ours; returns where it really listens."""
        server = listening_socket(local)
        try:
            shown = self._listens(server, advertise)
            self._servers.append(
                await self._loop.create_server(
                    lambda: Connection(self, shown), sock=server, backlog=self.limits.backlog
                )
            )
            return Address(*server.getsockname()[:2])
        except BaseException:
            server.close()
            raise

    def close(self) -> None:
        for server in self._servers:
            server.close()
        super().close()

    async def _make(self, flow: Flow) -> Connection:
        _, connection = await self._loop.create_connection(
            lambda: Connection(self, self._shown), *flow.remote, local_addr=self._source
        )
        return connection

"""Leaving by a relay over SSH: each stream is a channel that this side opens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tunnelkit.agent.egress_pool import ANSWER_TIMEOUT, AWAY_WAIT
from tunnelkit.agent.link import LinkUser, Trust, lacks_egress
from tunnelkit.agent.ssh_link import SshLink
from tunnelkit.errors import DestinationTimeoutError, LimitError, RelayUnreachableError, TunnelkitError
from tunnelkit.net.pump import Pump
from tunnelkit.transport.ssh_client import SshConnection
from tunnelkit.transport.ssh_outgoing import OutgoingSshStream
from tunnelkit.wire.messages import Open, Welcome
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["SshEgressLink"]


class SshEgressLink(SshLink):
    """See :class:`~tunnelkit.agent.link.EgressLink`."""

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, trust, pump, user, environ)
        self._greeted = asyncio.Event()
        self._limit = 0
        self._failure: TunnelkitError | None = None

    @property
    def busy(self) -> int:
        return 0 if self.connection is None else len(self.connection.streams)

    async def open(self, request: Open) -> OutgoingSshStream:
        connection = await self._connected()
        if len(connection.streams) >= self._limit:
            raise LimitError(f"All {self._limit} streams to the relay are in use")
        stream = connection.open_stream(request)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await stream.answer
        except TimeoutError:
            stream.cancel("timeout")
            raise DestinationTimeoutError("The relay did not answer in time") from None
        except asyncio.CancelledError:
            stream.cancel("cancelled")
            raise
        return stream

    async def _connected(self) -> SshConnection:
        """The connection, waited for as long as one fast reconnect takes."""
        if not self._greeted.is_set():
            try:
                async with asyncio.timeout(AWAY_WAIT):
                    await self._greeted.wait()
            except TimeoutError:
                raise RelayUnreachableError(f"The relay at {self._dialer.url} is away") from None
        if self._failure is not None:
            raise self._failure
        if self.connection is None:
            raise RelayUnreachableError(f"The relay at {self._dialer.url} is away")
        return self.connection

    def greeted(self, welcome: Welcome) -> None:
        super().greeted(welcome)
        self._limit = welcome.max_channels
        self._failure = lacks_egress(self._dialer.url, welcome)
        self._greeted.set()

    def lost(self, code: str) -> None:
        self._greeted.clear()
        super().lost(code)

    def disconnect(self) -> None:
        self._greeted.clear()
        super().disconnect()

    async def close(self) -> None:
        if self.connection is not None:
            for stream in list(self.connection.streams):
                stream.lost("agent_closed")
        await super().close()

"""Leaving by a relay over WebSocket: this side opens the streams on its data channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tunnelkit.agent.egress_pool import EgressPool, EgressStream, UnansweredError
from tunnelkit.agent.link import LinkUser, Trust, lacks_egress
from tunnelkit.agent.websocket_link import WebSocketConnection
from tunnelkit.errors import RelayUnreachableError
from tunnelkit.net.pump import Pump
from tunnelkit.transport.channels import Channel
from tunnelkit.wire.messages import Open, Welcome
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["WebSocketEgressLink"]

MAX_TRIES = 3
"""Data channels tried for one stream, where they end before the relay has answered."""


class WebSocketEgressLink(WebSocketConnection):
    """See :class:`~tunnelkit.agent.link.EgressLink`."""

    opens = True

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, trust, pump, user, environ)
        self.pool = EgressPool(
            pump, self._dial_channel, send=self.send, mask=self.dialer.random_mask, relay=str(url)
        )

    @property
    def channels(self) -> Mapping[int, Channel]:
        return self.pool.channels

    @property
    def busy(self) -> int:
        return self.pool.busy

    async def open(self, request: Open) -> EgressStream:
        for _ in range(MAX_TRIES):
            channel = await self.pool.acquire()
            try:
                await self.pool.ask(channel, request)
            except UnansweredError:
                continue
            except asyncio.CancelledError:
                channel.cancel("cancelled")
                raise
            return channel
        raise RelayUnreachableError(f"The connection to the relay at {self.dialer.url} is lost")

    def _session_begun(self, welcome: Welcome, *, anew: bool) -> None:
        if anew:
            self.pool.drop("relay_closed")
        self.pool.connected(welcome.max_channels, lacks_egress(self.dialer.url, welcome))

    def _tick(self, now: float) -> None:
        self.pool.tick(now)

    def _lost(self, code: str) -> None:
        self.pool.disconnected()
        super()._lost(code)

    def disconnect(self) -> None:
        self.pool.disconnected()
        super().disconnect()

    async def _close_channels(self) -> None:
        await self.pool.close()

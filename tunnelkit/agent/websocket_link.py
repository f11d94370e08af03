"""A relay by WebSocket: one control connection, and data channels beside it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack

from tunnelkit.agent.dialer import WebSocketDialer
from tunnelkit.agent.link import LinkUser, Trust
from tunnelkit.agent.pool import WARM, Pool
from tunnelkit.errors import InvalidError
from tunnelkit.net.pump import Pump
from tunnelkit.net.resolve import Resolver
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.channels import Channel
from tunnelkit.transport.liveness import Liveness
from tunnelkit.transport.websocket import Control
from tunnelkit.wire.messages import (
    Cancel,
    ControlToAgent,
    Message,
    Need,
    Welcome,
    decode_control_to_agent,
)
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["WebSocketConnection", "WebSocketLink"]

log = logging.getLogger("tunnelkit")


class WebSocketConnection(ABC):
    """What links by WebSocket have in common: the control connection, and the look at all connections.

    Streams live on while the control connection is away.
    """

    opens = False
    """Whether this side opens the streams on its data channels."""

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.dialer = WebSocketDialer(
            url, trust.token, ca=trust.ca, fingerprint=trust.fingerprint, environ=environ
        )
        self.control: Control | None = None
        self._pump = pump
        self._user = user
        self._tasks = Tasks("link")
        self._session = ("", "")
        self._liveness: Liveness | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.dialer.url}>"

    @property
    def resolver(self) -> Resolver:
        return self.dialer.resolver

    # --- what subclasses say --------------------------------------------------------------------

    @property
    @abstractmethod
    def channels(self) -> Mapping[int, Channel]:
        """The data channels there are."""

    @abstractmethod
    def _session_begun(self, welcome: Welcome, *, anew: bool) -> None:
        """The relay has greeted this side. ``anew``: the session there was is gone, with its channels."""

    def _tick(self, now: float) -> None:  # noqa: B027 - the relay looks after most
        """Look after what waits; called a few times in a ping interval."""

    @abstractmethod
    async def _close_channels(self) -> None:
        """End all data channels."""

    # --- the control connection -----------------------------------------------------------------

    def check(self, kind: str, *, name: str, remote_port: int, host_header: str) -> None:
        """A relay has names for HTTP, and ports for TCP."""
        if kind == "http" and remote_port:
            raise InvalidError("An HTTP tunnel has a name, not a port", hint="Leave out --remote-port")

    async def connect(self) -> None:
        sock, protocol, rest = await self.dialer.control()
        control = Control(self._pump, sock, protocol, on_text=self._received, on_lost=self._lost)
        self.control = control
        control.start(rest)

    async def _dial_channel(self, number: int) -> tuple[AnySocket, bytes]:
        return await self.dialer.channel(*self._session, number, egress=self.opens)

    def _lost(self, code: str) -> None:
        self.control = None
        self._user.lost(code)

    def _received(self, text: bytes) -> None:
        message = decode_control_to_agent(text)
        if not isinstance(message, Cancel):
            self._heard(message)
        elif (channel := self.channels.get(message.channel)) is not None:
            channel.cancelled(message.stream, message.code, message.sent)

    def _heard(self, message: ControlToAgent | None) -> None:
        self._user.received(message)

    def send(self, message: Message) -> bool:
        if self.control is None or self.control.closed:
            return False
        self.control.send(message)
        return True

    def greeted(self, welcome: Welcome) -> None:
        anew = not welcome.resumed and bool(self._session[0])
        self._session = (welcome.session, welcome.secret)
        if self._liveness is None:
            self._tasks.spawn(self._clock(), "clock")
        self._liveness = Liveness(max(0.1, welcome.ping_interval), max(0.1, welcome.ping_timeout))
        self._session_begun(welcome, anew=anew)

    async def _clock(self) -> None:
        while True:
            assert self._liveness is not None
            await asyncio.sleep(self._liveness.period)
            try:
                self._liveness.check(self.control, self.channels.values())
                self._tick(self._pump.loop.time())
            except Exception:
                log.exception("a look at the connections failed")  # the next one may not

    def disconnect(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None

    async def close(self) -> None:
        async with AsyncExitStack() as stack:  # all of it is called, last one first
            stack.callback(self.dialer.close)
            stack.push_async_callback(self._close_channels)
            stack.callback(self.disconnect)
            stack.push_async_callback(self._tasks.close)


class WebSocketLink(WebSocketConnection):
    """See :class:`~tunnelkit.agent.link.Link`: the relay asks for channels, and opens streams on them."""

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(url, trust, pump, user, environ)
        self.pool = self._new_pool()

    def _new_pool(self) -> Pool:
        return Pool(
            self._pump,
            self._dial_channel,
            on_open=self._user.stream_opened,
            send=self.send,
            random_mask=self.dialer.random_mask,
        )

    @property
    def channels(self) -> Mapping[int, Channel]:
        return self.pool.channels

    def _heard(self, message: ControlToAgent | None) -> None:
        if isinstance(message, Need):
            self.pool.more(message.n)
        else:
            super()._heard(message)

    def _session_begun(self, welcome: Welcome, *, anew: bool) -> None:
        if welcome.resumed:
            self.pool.resumed()
        elif anew:
            self._tasks.spawn(self.pool.close(), "old data channels")
            self.pool = self._new_pool()
        self.pool.limit = welcome.max_channels
        if not self.pool.channels:
            self.pool.more(WARM)

    async def _close_channels(self) -> None:
        await self.pool.close()

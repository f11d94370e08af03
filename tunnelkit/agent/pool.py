"""The agent's data channels: dialled when the relay asks, used again, looked after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.channels import AcceptorChannel
from tunnelkit.wire.messages import Message, Open

__all__ = ["Pool"]

log = logging.getLogger("tunnelkit")

WARM = 1
"""Channels opened before anybody asks: the first visitor waits for no handshake."""

DIALS = 64
"""Handshakes at once. On a way of 100 ms, one over TLS takes 0.4 s: these are 160 new visitors a second,
and fewer than a relay takes for a flood."""

DIAL_TRIES = 3
"""Tries for a channel that the relay asked for; after that the relay asks again if it still wants it."""

Dial = Callable[[int], Awaitable[tuple[AnySocket, bytes]]]


class Pool:
    """The data channels of one session.

    ``dial(number)`` shakes hands for channel ``number`` and returns its socket with what came
    behind. ``on_open`` gets each visitor; ``send`` sends on the control connection, if there is one.
    """

    def __init__(
        self,
        pump: Pump,
        dial: Dial,
        *,
        on_open: Callable[[AcceptorChannel, Open], None],
        send: Callable[[Message], bool],
        random_mask: bool,
    ) -> None:
        self.channels: dict[int, AcceptorChannel] = {}
        self.limit = 4096
        """Channels at once, as the relay says."""
        self._pump = pump
        self._dial = dial
        self._on_open = on_open
        self._send = send
        self._random_mask = random_mask
        self._dials = asyncio.Semaphore(DIALS)
        self._dialling = 0
        self._next = 0
        self._tasks = Tasks("data channels")

    def more(self, count: int, *, again: bool = False) -> None:
        """Open ``count`` more channels, within the limit.

        ``again``: they were asked for before. Dials that are under way may hang for good, so others
        are made beside them, but only as many again: they may also just wait to be accepted, and a
        relay that is overloaded would get more and more of them.
        """
        if again:
            count = min(count, 2 * count - self._dialling)
        room = self.limit - len(self.channels) - self._dialling
        for _ in range(min(count, room)):
            self._dialling += 1
            self._tasks.spawn(self._add(), "dial")

    async def _add(self) -> None:
        try:
            async with self._dials:
                for _ in range(DIAL_TRIES):
                    try:
                        await self._add_one()
                        return
                    except (TunnelkitError, OSError) as error:
                        log.info("a data channel could not be opened: %s", error)
        finally:
            self._dialling -= 1

    async def _add_one(self) -> None:
        self._next += 1
        number = self._next
        sock, received = await self._dial(number)
        channel = AcceptorChannel(self._pump, sock, number, self, random_mask=self._random_mask)
        self.channels[number] = channel
        channel.start(received)

    def stream_opened(self, channel: AcceptorChannel, request: Open) -> None:
        self._on_open(channel, request)

    def channel_gone(self, channel: AcceptorChannel) -> None:
        self.channels.pop(channel.number, None)

    def send(self, message: Message) -> bool:
        return self._send(message)

    def find(self, number: int) -> AcceptorChannel | None:
        """The channel ``number``, if it is there."""
        return self.channels.get(number)

    def resumed(self) -> None:
        """The session goes on over a new control connection; the old one may have taken aborts with it."""
        for channel in list(self.channels.values()):
            if channel.cancelling:
                channel.lost("cancelled")

    def drop(self, code: str) -> None:
        """The session is gone: so are its channels."""
        for channel in list(self.channels.values()):
            channel.lost(code)

    async def close(self) -> None:
        """End all channels now."""
        try:
            await self._tasks.close()
        finally:
            self.drop("agent_closed")

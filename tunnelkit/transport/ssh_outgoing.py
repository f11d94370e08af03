"""Streams that leave by a relay over SSH: this side opens them, and holds them until somebody uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncssh.packet import String

from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import StreamUser
from tunnelkit.transport.exit import MAX_VISITOR, MAX_WORDS
from tunnelkit.transport.held import Held
from tunnelkit.transport.ssh_channel import STREAM_TYPE, SshStream
from tunnelkit.transport.ssh_congestion import ChannelHost
from tunnelkit.wire.messages import Open, encode, plain_text

__all__ = ["OutgoingSshStream"]


class _Asking(Held):
    """The user of a stream whose peer has not answered yet."""

    def __init__(self, answer: asyncio.Future[None]) -> None:
        super().__init__()
        self.answer = answer

    def refused(self, code: str, what: str) -> None:
        self._fail(errors.from_code(plain_text(code, MAX_VISITOR), plain_text(what, MAX_WORDS)))

    def aborted(self, code: str) -> None:
        super().aborted(code)
        self._fail(errors.RelayUnreachableError("The connection to the relay is lost"))

    def _fail(self, error: errors.TunnelkitError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class OutgoingSshStream(SshStream):
    """An :class:`~tunnelkit.net.stream.Outgoing`; ``on_gone(stream)`` is called when it is over."""

    __slots__ = ("_held", "_next_user", "_on_gone", "answer", "source")

    def __init__(self, pump: Pump, host: ChannelHost, on_gone: Callable[[OutgoingSshStream], None]) -> None:
        super().__init__(pump, host)
        self.source = ""
        """The address that the stream leaves from."""
        self.answer: asyncio.Future[None] = pump.loop.create_future()
        """Done once the stream is there; fails with the relay's answer."""
        self._on_gone = on_gone
        self._next_user: StreamUser | None = None
        self._held: Held | None = _Asking(self.answer)
        self.paused = True
        self.user = self._held

    def ask(self, request: Open) -> None:
        """Open it."""
        self._request(STREAM_TYPE, String(encode(request)))

    def confirmed(self, source: str) -> None:
        self.source = plain_text(source, MAX_VISITOR)
        if not self.answer.done():
            self.answer.set_result(None)

    def use(self, user: StreamUser) -> None:
        if self._held is None:
            super().use(user)
        else:
            self._next_user = user

    def resume(self) -> None:
        held, user = self._held, self._next_user
        if held is None:
            super().resume()
        elif user is not None:
            self._held = self._next_user = None
            if not self.closed:
                super().use(user)
                super().resume()
            held.hand_over(user)

    def gone(self) -> None:
        self._on_gone(self)

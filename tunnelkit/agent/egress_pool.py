"""The data channels of an agent that leaves by a relay: it opens the streams on them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from tunnelkit.agent.pool import DIAL_TRIES, DIALS, Dial
from tunnelkit.errors import (
    AuthError,
    DestinationTimeoutError,
    LimitError,
    RelayUnreachableError,
    TunnelkitError,
    from_code,
)
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import StreamUser
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.channels import Channel, OpenerChannel, OpenerOwner
from tunnelkit.transport.exit import MAX_VISITOR, MAX_WORDS
from tunnelkit.wire.channel import State
from tunnelkit.wire.messages import Message, Open, plain_text

__all__ = ["EgressPool", "EgressStream", "UnansweredError"]

log = logging.getLogger("tunnelkit")

CHANNEL_IDLE = 60.0
"""Seconds after which idle data channels beyond the first are closed."""

CHANNEL_WAIT = 10.0
"""Seconds to wait for a data channel: the time of a few lost packets on the way."""

AWAY_WAIT = 3.0
"""Seconds to wait for a relay that is away: one fast reconnect."""

ANSWER_TIMEOUT = 20.0
"""Seconds for a relay to answer ``open``: longer than an exit behind it has. Looked at a few times in a ping
interval, so that no stream needs a timer of its own."""

MAX_WAITING = 1024
"""Streams that wait for a data channel; the next one fails at once."""


class UnansweredError(Exception):
    """The channel ended before the relay had answered."""


class _Held:
    """The user of a stream that has none yet: keeps what came together with the answer."""

    def __init__(self) -> None:
        self.data = b""
        self.has_ended = False
        self.failure: str | None = None

    def payload(self, data: memoryview | bytes) -> None:
        self.data += data

    def ended(self) -> None:
        self.has_ended = True

    def refused(self, code: str, what: str) -> None: ...

    def aborted(self, code: str) -> None:
        self.failure = code

    def drained(self) -> None: ...


class EgressStream(OpenerChannel):
    """A data channel towards a relay, and the stream on it.

    Until the relay has answered, the channel is its own user. Then the stream is held: nothing is
    called back before ``use`` and ``resume``.
    """

    __slots__ = ("_answer", "_held", "_next_user", "source")

    def __init__(self, pump: Pump, sock: AnySocket, number: int, owner: OpenerOwner, *, mask: bool) -> None:
        super().__init__(pump, sock, number, owner, client=True, random_mask=mask)
        self.source = ""
        """The address that the stream leaves from."""
        self._held: _Held | None = None
        self._next_user: StreamUser | None = None
        self._answer: asyncio.Future[None]

    def ask(self, request: Open) -> asyncio.Future[None]:
        """Open a stream. The future is done once it is there; it fails with the relay's answer, or
        with UnansweredError."""
        self._answer = self._pump.loop.create_future()
        self._held = self._next_user = None
        numbered = Open(
            self.stream + 1, 0, request.visitor, probe=request.probe, target=request.target, exit=request.exit
        )
        self.open(numbered, self, opened=self._has_opened)
        return self._answer

    def _has_opened(self, source: str) -> None:
        self.source = plain_text(source, MAX_VISITOR)
        self._held = held = _Held()
        super().use(held)
        self.pause()
        if not self._answer.done():
            self._answer.set_result(None)

    def refused(self, code: str, what: str) -> None:
        self._fail(from_code(plain_text(code, MAX_VISITOR), plain_text(what, MAX_WORDS)))

    def aborted(self, code: str) -> None:
        self._fail(UnansweredError(code))

    def give_up(self) -> None:
        """The relay has not answered in time."""
        self.cancel("timeout")
        self._fail(DestinationTimeoutError("The relay did not answer in time"))

    def _fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)

    def payload(self, data: memoryview | bytes) -> None: ...
    def ended(self) -> None: ...
    def drained(self) -> None: ...

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
            super().use(user)
            super().resume()
            if held.data:
                user.payload(held.data)
            if held.failure is not None:
                user.aborted(held.failure)
            elif held.has_ended:
                user.ended()


class EgressPool:
    """The data channels of one session, dialled as streams need them.

    ``dial(number)`` shakes hands for channel ``number``; ``send`` sends on the control connection, if
    there is one. ``relay`` is its address, for errors.
    """

    def __init__(
        self, pump: Pump, dial: Dial, *, send: Callable[[Message], bool], mask: bool, relay: str
    ) -> None:
        self.channels: dict[int, EgressStream] = {}
        self.failure: TunnelkitError | None = None
        """Why this relay is of no use."""
        self._pump = pump
        self._dial = dial
        self._send = send
        self._mask = mask
        self._relay = relay
        self._limit = 0
        self._is_connected = False
        self._idle: list[EgressStream] = []
        self._asking: dict[OpenerChannel, float] = {}  # in the order of their deadlines
        self._waiting: deque[asyncio.Future[EgressStream]] = deque()
        self._dials = asyncio.Semaphore(DIALS)
        self._dialling = 0
        self._next = 0
        self._tasks = Tasks("egress channels")

    @property
    def busy(self) -> int:
        """How many channels carry a stream."""
        return sum(channel.state is not State.IDLE for channel in self.channels.values())

    # --- the session ----------------------------------------------------------------------------

    def connected(self, limit: int, failure: TunnelkitError | None) -> None:
        """The session is there: at most ``limit`` channels, none if there is a ``failure``."""
        self._is_connected = True
        self._limit = limit
        self.failure = failure
        if failure is not None:
            self._turn_away(failure)
        elif not self.channels and not self._dialling:
            self._more(max(1, len(self._waiting)))  # one at least: the first stream waits for no handshake
        else:
            self._ask()

    def disconnected(self) -> None:
        """The control connection is lost; streams run on."""
        self._is_connected = False

    def drop(self, code: str) -> None:
        """The session is gone: so are its channels."""
        for channel in list(self.channels.values()):
            channel.lost(code)

    # --- channels -------------------------------------------------------------------------------

    def ask(self, channel: EgressStream, request: Open) -> asyncio.Future[None]:
        """Open a stream on ``channel``; see :meth:`EgressStream.ask`."""
        self._asking[channel] = self._pump.loop.time() + ANSWER_TIMEOUT
        return channel.ask(request)

    async def acquire(self) -> EgressStream:
        """A free channel, waited for. Raises RelayUnreachableError, LimitError, and :attr:`failure`."""
        while True:
            channel = self._idle.pop() if self._idle else await self._next_free()
            if not channel.closed:  # as it may be since the moment in which it was free
                return channel

    async def _next_free(self) -> EgressStream:
        if self.failure is not None:
            raise self.failure
        if len(self._waiting) >= MAX_WAITING:
            raise LimitError("Too many connections wait for the relay")
        waiter: asyncio.Future[EgressStream] = self._pump.loop.create_future()
        self._waiting.append(waiter)
        self._ask()
        try:
            async with asyncio.timeout(CHANNEL_WAIT if self._is_connected else AWAY_WAIT):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.channel_free(waiter.result())  # it came in the same moment
            if isinstance(error, TimeoutError):
                raise self._why_none() from None
            raise

    def _why_none(self) -> TunnelkitError:
        if self._is_connected and len(self.channels) >= self._limit:
            return LimitError(f"All {self._limit} data channels to the relay are in use")
        return RelayUnreachableError(f"The relay at {self._relay} is away")

    def _turn_away(self, error: TunnelkitError) -> None:
        while self._waiting:
            self._fail_one(error)

    def _fail_one(self, error: TunnelkitError) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def _ask(self) -> None:
        if self._is_connected and self.failure is None:
            self._more(len(self._waiting) - self._dialling)

    def _more(self, count: int) -> None:
        room = self._limit - len(self.channels) - self._dialling
        for _ in range(min(count, room)):
            self._dialling += 1
            self._tasks.spawn(self._add(), "dial")

    async def _add(self) -> None:
        failure: TunnelkitError | None = None
        try:
            async with self._dials:
                for _ in range(DIAL_TRIES):
                    try:
                        await self._add_one()
                        return
                    except (TunnelkitError, OSError) as error:
                        log.info("a data channel could not be opened: %s", error)
                        failure = _as_ours(error)
        finally:
            self._dialling -= 1
        if failure is not None and self._is_connected:
            self._fail_one(failure)

    async def _add_one(self) -> None:
        self._next += 1
        number = self._next
        sock, received = await self._dial(number)
        channel = EgressStream(self._pump, sock, number, self, mask=self._mask)
        self.channels[number] = channel
        channel.start(received)
        self.channel_free(channel)

    def tick(self, now: float) -> None:
        """End what has waited for too long: for an answer, or for a stream."""
        while self._asking:
            channel, deadline = next(iter(self._asking.items()))
            if deadline > now:
                break
            del self._asking[channel]
            assert isinstance(channel, EgressStream)
            channel.give_up()
        while len(self._idle) > 1 and self._idle[0].idle_since < now - CHANNEL_IDLE:
            self._idle[0].lost("closed")

    # --- the owner of its channels ----------------------------------------------------------------

    def channel_answered(self, channel: OpenerChannel) -> None:
        self._asking.pop(channel, None)

    def channel_free(self, channel: OpenerChannel) -> None:
        assert isinstance(channel, EgressStream)
        if channel.closed:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(channel)
                return
        self._idle.append(channel)

    def channel_gone(self, channel: Channel) -> None:
        gone = self.channels.pop(channel.number, None)
        if gone is None:
            return
        self._asking.pop(gone, None)
        if gone in self._idle:
            self._idle.remove(gone)
        if self._waiting:
            self._ask()

    def send(self, message: Message) -> bool:
        return self._send(message)

    async def close(self) -> None:
        """End all channels now."""
        try:
            await self._tasks.close()
        finally:
            self.failure = RelayUnreachableError("The proxy is closed")
            self._turn_away(self.failure)
            self.drop("agent_closed")


def _as_ours(error: TunnelkitError | OSError) -> TunnelkitError:
    if isinstance(
        error, AuthError
    ):  # of the session: the relay has restarted, and this side is about to hear
        return RelayUnreachableError(error.what)
    return error if isinstance(error, TunnelkitError) else RelayUnreachableError(str(error))

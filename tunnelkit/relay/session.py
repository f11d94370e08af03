"""One agent at the relay: its control connection, its data channels, its tunnels.

A session outlives its control connection for a while: streams run on, names and ports are kept, and
the agent that comes back with the session's secret takes it up again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import deque
from collections.abc import Callable

from tunnelkit.errors import LimitError
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.relay.auth import Identity
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.relay.sessions import AgentAwayError, EgressOpen, SessionStream
from tunnelkit.transport.channels import AcceptorChannel, Channel, OpenerChannel
from tunnelkit.transport.liveness import Liveness
from tunnelkit.transport.websocket import Control
from tunnelkit.wire import messages
from tunnelkit.wire.channel import State

__all__ = ["AgentSession"]

log = logging.getLogger("tunnelkit")


class AgentSession:
    """See the module, and :class:`~tunnelkit.relay.sessions.Session`.

    ``on_gone(session)`` is called when it has ended for good; ``on_egress(session, stream, request)`` gets
    the streams that the agent opens itself.
    """

    def __init__(
        self,
        pump: Pump,
        identity: Identity,
        agent: str,
        limits: Limits,
        on_gone: Callable[[AgentSession], None],
        on_egress: EgressOpen | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.secret = secrets.token_hex(16)
        self.identity = identity
        self.agent = agent
        """The agent's own identity: a newer session of the same agent takes its tunnels over."""
        self.tunnels: dict[int, RelayTunnel] = {}
        self.control: Control | None = None
        self.draining = False
        self.ended = False
        self._pump = pump
        self._limits = limits
        self._on_gone = on_gone
        self._on_egress = on_egress
        self._channels: dict[int, Channel] = {}
        self._idle: list[OpenerChannel] = []
        self._waiting: deque[asyncio.Future[OpenerChannel]] = deque()
        self._asked = 0  # channels asked for that have not come yet
        self._arrived = False  # whether one has come since the last look
        self._opening: dict[OpenerChannel, float] = {}
        self._reaching: dict[OpenerChannel, float] = {}  # as _opening; these wait longer
        self._liveness = Liveness(limits.ping_interval, limits.ping_timeout)
        self._detached_at = 0.0
        self._stream = 0
        self._replaced: deque[int] = deque(maxlen=limits.tunnels_per_session)

    def __repr__(self) -> str:
        return f"<AgentSession {self.id} of {self.identity.name}, {len(self._channels)} channels>"

    # --- the control connection -----------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether the agent is connected."""
        return self.control is not None

    async def gives_way(self) -> bool:
        """It is told, and does not come back."""
        return True

    def permits(self, message: messages.Request) -> None:
        """Whoever has a token may ask for anything."""

    def proves(self, secret: str) -> bool:
        """Whether ``secret`` is this session's."""
        return hmac.compare_digest(self.secret.encode(), secret.encode("utf-8", "surrogateescape"))

    def attach(self, control: Control) -> None:
        """The agent is connected, for the first time or again."""
        last, self.control = self.control, control
        if last is not None:
            last.close("taken up again")
        self._asked = 0

    def greeted(self) -> None:
        """The agent has its welcome: say again what may have been lost with an earlier connection."""
        for number in self._replaced:
            self.send(messages.Replaced(number))
        for channel in list(self._channels.values()):
            if channel.cancelling and isinstance(channel, AcceptorChannel):
                channel.lost("cancelled")  # the abort may be among what was lost: the end says it
        self.ask()

    def detach(self) -> None:
        """The control connection is lost; the agent has a while to come back."""
        self.control = None
        self._asked = 0
        self._detached_at = self._pump.loop.time()
        if self._waiting:
            self._pump.loop.call_later(self._limits.away_wait, self._turn_away, list(self._waiting))

    def send(self, message: messages.Message) -> bool:
        """Send on the control connection; False where there is none."""
        if self.control is None:
            return False
        self.control.send(message)
        return True

    def replaced(self, number: int) -> None:
        """A newer session has tunnel ``number`` now. An agent that does not hear of it would fight back."""
        self._replaced.append(number)
        self.send(messages.Replaced(number))

    # --- data channels --------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many channels carry a stream."""
        return sum(channel.state is not State.IDLE for channel in self._channels.values())

    @property
    def wanting(self) -> bool:
        """Whether visitors wait for a channel and the agent may open no more."""
        return bool(self._waiting) and self.full

    @property
    def full(self) -> bool:
        """Whether the agent may open no further channel."""
        return len(self._channels) >= self._limits.channels_per_session

    def add_channel(self, sock: AnySocket, number: int) -> OpenerChannel:
        """A data channel has come; ``number`` is the agent's. Raises LimitError."""
        self._make_sure_of_room(number)
        self._asked = max(0, self._asked - 1)
        self._arrived = True
        channel = OpenerChannel(self._pump, sock, number, self)
        self._channels[number] = channel
        return channel

    def add_egress_channel(self, sock: AnySocket, number: int) -> AcceptorChannel:
        """A data channel has come on which the agent opens streams. Raises LimitError."""
        self._make_sure_of_room(number)
        channel = AcceptorChannel(self._pump, sock, number, self, client=False)
        self._channels[number] = channel
        return channel

    def _make_sure_of_room(self, number: int) -> None:
        if self.full:
            raise LimitError(f"A session has at most {self._limits.channels_per_session} data channels")
        if number in self._channels:
            raise LimitError(f"The session already has a data channel {number}")

    def stream_opened(self, channel: AcceptorChannel, request: messages.Open) -> None:
        if self._on_egress is not None:
            self._on_egress(self, channel, request)
        else:
            channel.refuse("no_exit", "The relay lends no address of its own")

    def take(self) -> OpenerChannel | None:
        """A free data channel, if there is one now."""
        return self._idle.pop() if self._idle else None

    async def acquire(self) -> OpenerChannel:
        """A free data channel, waited for. Raises AgentAwayError or LimitError."""
        while True:
            if self.ended:
                raise AgentAwayError("The tunnel's agent has left")
            channel = self.take() or await self._next_free()
            if not channel.closed:  # as it may be since the moment in which it was free
                return channel

    def _turn_away(self, waiters: list[asyncio.Future[OpenerChannel]]) -> None:
        """They began to wait while the agent was there; now it has been away for long enough."""
        for waiter in waiters:
            if not waiter.done() and not self.attached:
                self._waiting.remove(waiter)
                waiter.set_exception(AgentAwayError("The tunnel's agent is not there"))

    async def _next_free(self) -> OpenerChannel:
        if len(self._waiting) >= self._limits.waiting_per_session:
            raise LimitError("Too many visitors wait for this tunnel's agent")
        waiter: asyncio.Future[OpenerChannel] = self._pump.loop.create_future()
        self._waiting.append(waiter)
        self.ask()
        patience = self._limits.channel_wait if self.attached else self._limits.away_wait
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.channel_free(waiter.result())  # it came in the same moment
            if isinstance(error, TimeoutError):
                raise AgentAwayError("The tunnel's agent is not there") from None
            raise

    def ask(self) -> None:
        """Ask the agent for the channels that visitors wait for."""
        if self.full:
            for tunnel in self.tunnels.values():
                if tunnel.upstreams:
                    tunnel.upstreams[0].give_up()
                    return
        room = self._limits.channels_per_session - len(self._channels) - self._asked
        wanted = min(len(self._waiting) - self._asked, room)
        if wanted > 0 and self.control is not None:
            self._asked += wanted
            self.send(messages.Need(wanted))

    def next_stream(self) -> int:
        """A number for a new stream."""
        self._stream += 1
        return self._stream

    def opening(self, channel: SessionStream) -> None:
        """``channel`` waits for the agent's answer."""
        assert isinstance(channel, OpenerChannel)
        self._opening[channel] = self._pump.loop.time() + self._limits.open_timeout

    def reaching(self, channel: SessionStream) -> None:
        """``channel`` waits for an exit, which dials across the internet."""
        assert isinstance(channel, OpenerChannel)
        self._reaching[channel] = self._pump.loop.time() + self._limits.exit_timeout

    def channel_answered(self, channel: OpenerChannel) -> None:
        self._opening.pop(channel, None)
        self._reaching.pop(channel, None)

    def channel_free(self, channel: SessionStream) -> None:
        assert isinstance(channel, OpenerChannel)
        if channel.closed:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(channel)
                return
        self._idle.append(channel)

    def channel_gone(self, channel: Channel) -> None:
        self._channels.pop(channel.number, None)
        if not isinstance(channel, OpenerChannel):
            return
        self.channel_answered(channel)
        if channel in self._idle:
            self._idle.remove(channel)
        if self._waiting:
            self.ask()

    def channel_cancelled(self, message: messages.Cancel) -> None:
        """The agent aborts a stream."""
        channel = self._channels.get(message.channel)
        if channel is not None:
            channel.cancelled(message.stream, message.code, message.sent)

    # --- time -----------------------------------------------------------------------------------

    def tick(self, now: float, *, liveness: bool) -> None:
        """Look after what waits; called every second, with ``liveness`` four times a ping interval."""
        for waiting in (self._opening, self._reaching):
            while waiting:
                channel, deadline = next(iter(waiting.items()))
                if deadline > now:
                    break
                del waiting[channel]
                channel.lost("agent_timeout")
        if not self.attached and now - self._detached_at > self._limits.resume_window:
            self.end()
            return
        while len(self._idle) > 1 and now - self._idle[0].idle_since > self._limits.channel_idle:
            self._idle[0].lost("closed")
        if liveness:
            self._liveness.check(self.control, self._channels.values())
        if self._waiting:
            if not self._arrived:
                self._asked = 0  # what has not come by now, while nothing came, may never
            self._arrived = False
            self.ask()

    # --- the end --------------------------------------------------------------------------------

    def end(self, code: str = "agent_away") -> None:
        """End the session with all its streams."""
        if self.ended:
            return
        self.ended = True
        if self.control is not None:
            self.control.close()
            self.control = None
        for channel in list(self._channels.values()):
            channel.lost(code)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(AgentAwayError("The tunnel's agent has left"))
        self._waiting.clear()
        self._on_gone(self)

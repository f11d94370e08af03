"""A session with a relay: connected, greeted, and connected again for as long as it runs.

What it is for is its subclasses' business: :class:`~tunnelkit.agent.agent.Agent` holds tunnels and
exits, :class:`~tunnelkit.agent.via.RelayEgress` leaves by the relay.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.agent.backoff import STEADY, backoff
from tunnelkit.agent.events import Event, Listener, guarded
from tunnelkit.agent.identity import agent_id
from tunnelkit.agent.link import Link
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.channels import Channel
from tunnelkit.transport.liveness import Liveness
from tunnelkit.transport.websocket import Control
from tunnelkit.wire import messages
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["Session"]

log = logging.getLogger("tunnelkit")

WELCOME_TIMEOUT = 10.0
"""Seconds for the relay to answer hello."""


class Session(ABC):
    """See the module. Entering a loop, a subclass calls :meth:`_begin`, and :meth:`_disconnect` last."""

    def __init__(
        self,
        relay: str,
        *,
        token: str,
        ca: str | None,
        fingerprint: str | None,
        identity: str | None,
        on_event: Listener,
    ) -> None:
        self.relay = RelayUrl.parse(relay)
        self.connected = False
        self._link_options = (token, ca, fingerprint)
        self._identity = identity or agent_id()
        self._on_event = guarded(on_event)
        self._tasks = Tasks("agent")
        self._pump: Pump
        self._link: Link
        self._liveness: Liveness
        self._control: Control | None = None
        self._lost: asyncio.Future[str]
        self._welcomed: asyncio.Future[None]
        self._session = ("", "")
        self._relay_has_egress = False

    def _prepare(self, pump: Pump) -> None:
        """Get ready to connect, on ``pump``."""
        token, ca, fingerprint = self._link_options
        self._link = Link(self.relay, token, ca=ca, fingerprint=fingerprint)
        self._pump = pump

    def _stay_connected(self) -> None:
        """From now on, look after the connection."""
        self._tasks.spawn(self._keep_connected(), "connection")
        self._tasks.spawn(self._clock(), "clock")

    def _send(self, message: messages.Message) -> bool:
        """Send on the control connection; False where there is none."""
        if self._control is None or self._control.closed:
            return False
        self._control.send(message)
        return True

    async def _dial_channel(self, number: int) -> tuple[AnySocket, bytes]:
        session, secret = self._session
        return await self._link.channel(session, secret, number, egress=self._opens)

    # --- what subclasses say --------------------------------------------------------------------

    _opens = False
    """Whether this side opens the streams on its data channels."""

    @property
    @abstractmethod
    def _channels(self) -> Iterable[Channel]:
        """The data channels there are."""

    @abstractmethod
    def _channel(self, number: int) -> Channel | None:
        """The data channel ``number``."""

    @abstractmethod
    def _session_begun(self, message: messages.Welcome) -> None:
        """The relay has said welcome: the channels and tunnels are still there, if ``resumed``."""

    @abstractmethod
    def _message(self, message: messages.ControlToAgent | None) -> None:
        """Any other message; None from a newer relay."""

    @abstractmethod
    def _tick(self, now: float) -> None:
        """Look after what waits; called a few times in a ping interval."""

    # --- the control connection -----------------------------------------------------------------

    async def _connect(self) -> None:
        """One control connection, up to the relay's welcome."""
        loop = asyncio.get_running_loop()
        sock, protocol, rest = await self._link.control()
        self._lost = lost = loop.create_future()
        self._welcomed = loop.create_future()
        control = Control(
            self._pump,
            sock,
            protocol,
            on_text=self._received,
            on_lost=lambda code: None if lost.done() else lost.set_result(code),
        )
        self._control = control
        try:
            await self._introduce(control, rest)
        except BaseException:
            self._disconnect()
            raise
        self._on_event(Event("connected", f"Connected to {self.relay}"))

    async def _introduce(self, control: Control, rest: bytes) -> None:
        control.start(rest)
        control.send(messages.Hello(self._identity, __version__, *self._session))
        either: list[asyncio.Future[Any]] = [self._welcomed, self._lost]
        await asyncio.wait(either, timeout=WELCOME_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not self._welcomed.done():
            raise errors.RelayUnreachableError(f"The relay at {self.relay} did not greet this agent")
        self._welcomed.result()

    def _received(self, text: bytes) -> None:
        message = messages.decode_control_to_agent(text)
        match message:
            case messages.Welcome():
                self._greeted(message)
            case messages.Refused() if not self._welcomed.done():
                error = errors.from_code(message.code, message.what, message.hint or None)
                self._welcomed.set_exception(error)
            case messages.Cancel():
                if (channel := self._channel(message.channel)) is not None:
                    channel.cancelled(message.stream, message.code, message.sent)
            case messages.Goodbye():
                self._on_event(Event("notice", "The relay shuts down", code="relay_closing"))
            case _:
                self._message(message)

    def _greeted(self, message: messages.Welcome) -> None:
        if self._welcomed.done():
            raise errors.ProtocolError("A second welcome")
        resumed_or_first = message.resumed or not self._session[0]
        if not resumed_or_first:
            self._session_lost()
        self._session = (message.session, message.secret)
        self._relay_has_egress = message.egress
        self._liveness = Liveness(max(0.1, message.ping_interval), max(0.1, message.ping_timeout))
        self._welcomed.set_result(None)
        self.connected = True
        self._session_begun(message)

    @abstractmethod
    def _session_lost(self) -> None:
        """The relay knows the last session no more; a new one begins."""

    @abstractmethod
    def _connection_lost(self) -> None:
        """The control connection is lost; the session may go on."""

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, lost_at = 0, 0.0
        while True:
            connected_at = loop.time()
            code = await self._lost
            if not attempt or loop.time() - connected_at >= STEADY:
                attempt, lost_at = 0, loop.time()
            self._control = None
            self.connected = False
            self._connection_lost()
            self._on_event(Event("disconnected", f"The connection to {self.relay} is lost", code=code))
            while not self.connected:
                delay = backoff(attempt, loop.time() - lost_at)
                attempt += 1
                if delay:
                    self._on_event(Event("retrying", f"Next try in {delay:.1f} s", delay=delay))
                await asyncio.sleep(delay)
                try:
                    await self._connect()
                except errors.TunnelkitError as error:
                    log.info("no connection to %s: %s", self.relay, error)
                    self._on_event(Event("retrying", error.what, code=error.code))
                except Exception:
                    # Whatever it was: an agent reconnects for as long as it runs.
                    log.exception("no connection to %s", self.relay)

    async def _clock(self) -> None:
        while True:
            await asyncio.sleep(self._liveness.period)
            try:
                self._liveness.check(self._control, self._channels)
                self._tick(asyncio.get_running_loop().time())
            except Exception:
                log.exception("a look at the connections failed")  # the next one may not

    def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        self.connected = False

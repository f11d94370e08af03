"""A session with a relay: connected, greeted, and connected again for as long as it runs.

How messages and streams travel is its link's business (:mod:`tunnelkit.agent.link`). What they are for is
its subclasses': :class:`~tunnelkit.agent.agent.Agent` holds tunnels and exits,
:class:`~tunnelkit.agent.via.RelayEgress` leaves by the relay.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.agent.backoff import STEADY, backoff
from tunnelkit.agent.events import Event, Listener, guarded
from tunnelkit.agent.identity import agent_id
from tunnelkit.agent.link import Link, Trust
from tunnelkit.net.pump import Pump
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.accept import AcceptedStream
from tunnelkit.wire import messages
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["Session"]

log = logging.getLogger("tunnelkit")

WELCOME_TIMEOUT = 10.0
"""Seconds for the relay to answer hello."""


class Session(ABC):
    """See the module. Entering a loop, a subclass calls :meth:`_prepare`, and :meth:`_disconnect` last.

    To its link, it is a :class:`~tunnelkit.agent.link.LinkUser`.
    """

    def __init__(self, relay: str, trust: Trust, *, identity: str | None, on_event: Listener) -> None:
        self.relay = RelayUrl.parse(relay)
        self.connected = False
        self._trust = trust
        self._identity = identity or agent_id()
        self._on_event = guarded(on_event)
        self._tasks = Tasks("agent")
        self._pump: Pump
        self._link: Link
        self._lost: asyncio.Future[str]
        self._welcomed: asyncio.Future[None]
        self._session = ("", "")
        self._relay_has_egress = False

    def _prepare(self, pump: Pump) -> None:
        """Get ready to connect, on ``pump``."""
        self._pump = pump
        self._link = self._make_link()

    def _stay_connected(self) -> None:
        """From now on, look after the connection."""
        self._tasks.spawn(self._keep_connected(), "connection")

    # --- what subclasses say --------------------------------------------------------------------

    @abstractmethod
    def _make_link(self) -> Link:
        """The way to the relay, on ``_pump``."""

    @abstractmethod
    def _session_begun(self, message: messages.Welcome) -> None:
        """The relay has said welcome: streams and tunnels are still there, if ``resumed``."""

    @abstractmethod
    def _message(self, message: messages.ControlToAgent | None) -> None:
        """Any other message; None from a newer relay."""

    @abstractmethod
    def stream_opened(self, stream: AcceptedStream, request: messages.Open) -> None:
        """The relay opens a stream."""

    # --- the connection -------------------------------------------------------------------------

    async def _connect(self) -> None:
        """One connection, up to the relay's welcome."""
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._welcomed = loop.create_future()
        try:
            await self._link.connect()
            await self._introduce()
        except BaseException:
            self._disconnect()
            raise
        self._on_event(Event("connected", f"Connected to {self.relay}"))

    async def _introduce(self) -> None:
        self._link.send(messages.Hello(self._identity, __version__, *self._session))
        either: list[asyncio.Future[Any]] = [self._welcomed, self._lost]
        await asyncio.wait(either, timeout=WELCOME_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not self._welcomed.done():
            raise errors.RelayUnreachableError(f"The relay at {self.relay} did not greet this agent")
        self._welcomed.result()

    def lost(self, code: str) -> None:
        """The link is down."""
        if not self._lost.done():
            self._lost.set_result(code)

    def received(self, message: messages.ControlToAgent | None) -> None:
        """The relay says something."""
        match message:
            case messages.Welcome():
                self._greeted(message)
            case messages.Refused() if not self._welcomed.done():
                error = errors.from_code(message.code, message.what, message.hint or None)
                self._welcomed.set_exception(error)
            case messages.Goodbye():
                self._on_event(Event("notice", "The relay shuts down", code="relay_closing"))
            case _:
                self._message(message)

    def told(self, what: str, code: str) -> None:
        """The link, or whoever runs the server, has a word for the person at the agent."""
        self._on_event(Event("notice", what, code=code))

    def _greeted(self, message: messages.Welcome) -> None:
        if self._welcomed.done():
            raise errors.ProtocolError("A second welcome")
        self._link.greeted(message)
        self._session = (message.session, message.secret)
        self._relay_has_egress = message.egress
        self._welcomed.set_result(None)
        self.connected = True
        self._session_begun(message)

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, lost_at = 0, 0.0
        while True:
            connected_at = loop.time()
            code = await self._lost
            if not attempt or loop.time() - connected_at >= STEADY:
                attempt, lost_at = 0, loop.time()
            self._disconnect()
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

    def _disconnect(self) -> None:
        self._link.disconnect()
        self.connected = False

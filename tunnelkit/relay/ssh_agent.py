"""Our own agent over SSH: control messages as lines on its subsystem, and a channel for each stream."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.ssh_session import SshSession, Stream
from tunnelkit.relay.tunnels import Tunnels
from tunnelkit.transport.ssh_peer import Terminal
from tunnelkit.wire import messages

__all__ = ["AgentClient"]

log = logging.getLogger("tunnelkit")

HELLO_TIMEOUT = 10.0
"""Seconds for an agent to send its first message."""


class AgentClient:
    """See the module. ``finish()`` ends the connection."""

    yields = True

    def __init__(
        self,
        session: SshSession,
        terminal: Terminal,
        tunnels: Tunnels,
        limits: Limits,
        finish: Callable[[], None],
    ) -> None:
        self.tasks = Tasks("ssh agent")
        self._session = session
        self._terminal = terminal
        self._tunnels = tunnels
        self._limits = limits
        self._finish = finish
        self._buffer = b""
        self._known = False
        self._impatience = session.pump.loop.call_later(HELLO_TIMEOUT, finish)

    def tell(self, message: messages.Message) -> None:
        self._terminal.send(messages.encode(message) + b"\n")

    def received(self, data: bytes) -> None:
        """Bytes of the control connection."""
        self._buffer += data
        try:
            while (end := self._buffer.find(b"\n")) >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                self._line(line)
            if len(self._buffer) >= messages.MAX_MESSAGE:
                raise errors.ProtocolError("A message without an end")
        except errors.ProtocolError as error:
            log.warning("an agent of %s was ended: %s", self._session.identity.name, error)
            self._finish()

    def _line(self, line: bytes) -> None:
        if len(line) >= messages.MAX_MESSAGE:
            raise errors.ProtocolError("A message that is too long")
        session = self._session
        message = messages.decode_control_to_relay(line)
        if not self._known:
            if not isinstance(message, messages.Hello):
                raise errors.ProtocolError("A control connection that does not begin with hello")
            self._welcome(message)
            return
        match message:
            case messages.Request() if session.draining:
                error = errors.LimitError("The relay shuts down", hint="Try again later")
                self.tell(messages.Refused(error.code, error.what, message.id, error.hint))
            case messages.Request():
                self.tasks.spawn(self._tunnels.request(session, message), f"tunnel {message.id}")
            case messages.Close(id=number) if number in session.tunnels:
                tunnel = session.tunnels[number]
                self.tasks.spawn(self._tunnels.close(tunnel, away=False), f"close tunnel {number}")
            case messages.Goodbye():
                self.tasks.spawn(self._leave(), "goodbye")
            case messages.Hello():
                raise errors.ProtocolError("A second hello")
            case _:
                pass  # closed already, or from a newer agent

    def _welcome(self, hello: messages.Hello) -> None:
        self._known = True
        self._impatience.cancel()
        session, limits = self._session, self._limits
        session.agent = hello.agent[:128]
        self.tell(
            messages.Welcome(
                session.id,
                "",
                resumed=False,
                version=__version__,
                ping_interval=limits.ping_interval,
                ping_timeout=limits.ping_timeout,
                max_channels=limits.channels_per_session,
                egress=True,
            )
        )

    async def _leave(self) -> None:
        """The agent goes for good: its tunnels close now, what runs may finish while it is there."""
        self._session.draining = True
        for tunnel in list(self._session.tunnels.values()):
            await self._tunnels.close(tunnel, away=False)

    def session_ended(self) -> None:
        """The control connection is gone, and with it the agent."""
        self._impatience.cancel()
        self._finish()

    def open(self, stream: Stream, request: messages.Open) -> bytes:
        """See :class:`~tunnelkit.relay.ssh_session.Client`."""
        stream.ask_agent(messages.encode(request))
        return b""

    def unanswered(self, stream: Stream) -> None:
        stream.lost("agent_timeout")

    def closed(self, stream: Stream) -> None:
        pass

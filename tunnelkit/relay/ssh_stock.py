"""A stock SSH client: its forwards as tunnels, the words of its command, and what its session shows.

OpenSSH asks for its forwards first and sends the command's words a round trip later. So the first
forward's answer is held until the words are there, or :data:`HOLD` has passed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tunnelkit import errors
from tunnelkit.relay.auth import Identity
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.relay.ssh_session import SshSession, Stream
from tunnelkit.relay.ssh_words import NO_WORDS, Words, asked_for, parse_words
from tunnelkit.relay.tunnels import Tunnels
from tunnelkit.transport.ssh_peer import Terminal
from tunnelkit.transport.ssh_stream import answer_probe
from tunnelkit.wire import messages
from tunnelkit.wire.address import Endpoint, parse_address
from tunnelkit.wire.proxy_protocol import header_v1, header_v2

__all__ = ["StockClient"]

log = logging.getLogger("tunnelkit")

HOLD = 0.3
"""Seconds the answer to a forward waits for the words of the command."""

IDLE = 2.0
"""Seconds a session without any forward is left, in case one is still to come."""

LINES_PER_SECOND = 20
"""Lines about connections that a terminal gets: more nobody reads."""


_HINTS = {
    "name_taken": "Choose another one, or -R 80:… for a name of the relay's choice",
    "port_taken": "Choose another one, or -R 0:… for a port of the relay's choice",
    "port_not_allowed": "Choose one inside, or -R 0:… for one of the relay's choice",
}
"""What to do about it with ``ssh``: the errors' own hints speak of tunnelkit's options."""


@dataclass(slots=True)
class _Forward:
    """What the client asked for, as it wrote it, and what it got."""

    host: str
    port: int
    number: int
    bound: int = 0
    url: str = ""
    answer: asyncio.Future[messages.Tunnel] | None = None


class StockClient:
    """See the module. ``chosen(n)`` is the name of the connection's ``n``-th forward without one."""

    yields = False

    def __init__(
        self,
        session: SshSession,
        tunnels: Tunnels,
        *,
        domain: str,
        chosen: Callable[[int], Awaitable[str]],
        finish: Callable[[], None],
    ) -> None:
        """``finish()`` ends the connection, once the client has had its chance to do it."""
        self._session = session
        self._tunnels = tunnels
        self._domain = domain
        self._chosen = chosen
        self._finish = finish
        self._forwards: dict[int, _Forward] = {}
        self._number = 0
        self._nameless = 0
        self._words: Words = NO_WORDS
        self._words_known = asyncio.Event()
        self._words_error: errors.TunnelkitError | None = None
        self._hold_until = 0.0
        self._pending = 0
        self._failed: errors.TunnelkitError | None = None
        self._name_used = False
        self._terminals: list[Terminal] = []
        self._begun: dict[Stream, float] = {}
        self._budget = float(LINES_PER_SECOND)
        self._budget_at = 0.0
        self._skipped = 0

    # --- forwards -------------------------------------------------------------------------------

    async def forward(self, host: str, port: int) -> int:
        """Open what ``-R host:port`` asks for; the port. Raises TunnelkitError."""
        self._pending += 1
        try:
            await self._hold()
            return await self._forward(host, port)
        except errors.TunnelkitError as error:
            error.hint = _HINTS.get(error.code, error.hint)
            self._failed = self._words_error or error
            if self._words_error is None:
                self._show(f"error: {error}", error=True)
            raise
        finally:
            self._pending -= 1
            self._session.pump.loop.call_soon(self._look)

    async def _hold(self) -> None:
        loop = self._session.pump.loop
        self._hold_until = self._hold_until or loop.time() + HOLD
        try:
            async with asyncio.timeout_at(self._hold_until):
                await self._words_known.wait()
        except TimeoutError:
            self._words_known.set()

    async def _forward(self, host: str, port: int) -> int:
        if self._words_error is not None:
            raise errors.RefusedError("Refused for the options of the command")
        if self._session.draining:
            raise errors.LimitError("The relay shuts down", hint="Try again later")
        if any((f.host, f.port) == (host, port) and port for f in self._forwards.values()):
            raise errors.InvalidError(f"{str(Endpoint(host, port))!r} is forwarded already")
        name, tcp = asked_for(host, port, self._domain)
        if tcp < 0 and not name:
            name = await self._next_name()
        words = self._words
        self._number += 1
        request = messages.Request(
            self._number,
            "http" if tcp < 0 else "tcp",
            name,
            max(tcp, 0),
            words.host_header if tcp < 0 else "",
            bool(words.proxy_protocol),
        )
        answer: asyncio.Future[messages.Tunnel] = self._session.pump.loop.create_future()
        forward = self._forwards[self._number] = _Forward(host, port, self._number, answer=answer)
        try:
            await self._tunnels.request(self._session, request)
            if not answer.done():
                raise errors.RefusedError("The session is over")
            tunnel = answer.result()
        except BaseException:
            del self._forwards[forward.number]
            raise
        forward.bound = port or tunnel.port
        forward.url = tunnel.url
        self._announce(forward)
        for warning in tunnel.warnings:
            self._show(f"warning: {warning}", error=True)
        return forward.bound

    async def _next_name(self) -> str:
        if self._words.name and not self._name_used:
            self._name_used = True
            return self._words.name
        self._nameless += 1
        return await self._chosen(self._nameless)

    async def forward_cancelled(self, host: str, port: int) -> bool:
        """Close what ``-R host:port`` opened."""
        for forward in self._forwards.values():
            if forward.host == host and port in (forward.port, forward.bound):
                tunnel = self._session.tunnels.get(forward.number)
                del self._forwards[forward.number]
                if tunnel is not None:
                    await self._tunnels.close(tunnel, away=False)
                return True
        return False

    # --- what the relay says --------------------------------------------------------------------

    def tell(self, message: messages.Message) -> None:
        match message:
            case messages.Tunnel(id=number) if number in self._forwards:
                answer = self._forwards[number].answer
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case messages.Refused(id=number) if number in self._forwards:
                answer = self._forwards[number].answer
                if answer is not None and not answer.done():
                    answer.set_exception(errors.from_code(message.code, message.what, message.hint))
            case messages.Notice():
                self._show(f"warning: {message.what} [{message.code}]", error=True)
            case messages.Replaced(id=number):
                self._replaced(number)
            case messages.Goodbye():
                self._show("the relay shuts down", error=True)
            case _:
                pass

    def _replaced(self, number: int) -> None:
        forward = self._forwards.pop(number, None)
        if forward is None:
            return
        error = errors.ReplacedError(f"A newer connection has {forward.url or 'the tunnel'} now")
        self._failed = error
        self._show(f"error: {error}", error=True)
        if not self._forwards:
            self._leave(error.exit_status)

    # --- sessions -------------------------------------------------------------------------------

    def session(self, terminal: Terminal, command: str | None) -> None:
        """A shell, or a command with words, has been asked for."""
        self._terminals.append(terminal)
        if command is not None and command.strip():
            self._take_words(command)
        self._words_known.set()
        if self._words_error is not None:
            self._failed = self._words_error
            self._show(f"error: {self._words_error}", error=True)
        for forward in self._forwards.values():
            if forward.url:
                self._announce(forward, terminal)
        self._session.pump.loop.call_later(IDLE, self._look)
        self._look()

    def _take_words(self, command: str) -> None:
        try:
            words = parse_words(command)
            if self._words_known.is_set():
                if words != self._words:
                    raise errors.InvalidError(
                        "The options came too late: the forward was answered before",
                        hint="Put the name into the forward: -R NAME:80:HOST:PORT",
                    )
            else:
                self._words = words
        except errors.TunnelkitError as error:
            self._words_error = error

    def typed(self, terminal: Terminal, data: bytes) -> None:
        """Ctrl-C and Ctrl-D end it; there is nothing else to type."""
        if b"\x03" in data or (terminal.is_tty and b"\x04" in data):
            self._leave(0)

    def session_ended(self, terminal: Terminal) -> None:
        if terminal in self._terminals:
            self._terminals.remove(terminal)

    def _look(self) -> None:
        """End a session that has nothing to wait for."""
        waiting = self._pending or self._session.connection.requests_waiting
        kept = self._forwards and self._words_error is None
        if kept or waiting or not self._terminals or self._session.ended:
            return
        if self._failed is not None:
            self._leave(self._failed.exit_status)
        elif self._hold_until == 0.0:
            now = self._session.pump.loop.time()
            if self._budget_at == 0.0:
                self._budget_at = now  # the first look
            elif now - self._budget_at >= IDLE * 0.9:
                self._show("error: Nothing is forwarded: ssh -R NAME:80:localhost:8000 …", error=True)
                self._leave(errors.InvalidError.exit_status)

    def _leave(self, status: int) -> None:
        """End the sessions, and with them the connection."""
        for terminal in list(self._terminals):
            terminal.exit(status)
        self._finish()

    # --- what is shown --------------------------------------------------------------------------

    def _show(self, text: str, *, error: bool = False) -> None:
        for terminal in self._terminals:
            terminal.line(text, error=error)

    def _announce(self, forward: _Forward, only: Terminal | None = None) -> None:
        """Show a tunnel's address; off a terminal nothing but that, for a script to read."""
        for terminal in self._terminals if only is None else [only]:
            terminal.line(forward.url)

    def _connection_line(self, text: str) -> None:
        terminals = [terminal for terminal in self._terminals if terminal.is_tty]
        if not terminals:
            return
        now = self._session.pump.loop.time()
        self._budget = min(LINES_PER_SECOND, self._budget + (now - self._budget_at) * LINES_PER_SECOND)
        self._budget_at = now
        if self._budget < 1:
            self._skipped += 1
            return
        self._budget -= 1
        stamp = time.strftime("%H:%M:%S")
        for terminal in terminals:
            if self._skipped:
                terminal.line(f"{stamp} … {self._skipped} lines left out")
            terminal.line(f"{stamp} {text}")
        self._skipped = 0

    # --- streams --------------------------------------------------------------------------------

    def open(self, stream: Stream, request: messages.Open) -> bytes:
        """See :class:`~tunnelkit.relay.ssh_session.Client`."""
        tunnel = self._session.tunnels[request.tunnel]
        if request.probe:
            answer_probe(stream, self._session.pump.loop, _probe_answer(tunnel, request.probe))
            return b""
        forward = self._forwards.get(request.tunnel)
        if forward is None:  # cancelled in this moment
            self._session.pump.loop.call_soon(stream.unanswered, "no_tunnel", "The forward was cancelled")
            return b""
        visitor = _address(request.visitor) or Endpoint("", 0)
        stream.ask_client(forward.host, forward.bound or forward.port, (visitor.host, visitor.port))
        self._begun[stream] = self._session.pump.loop.time()
        self._connection_line(f"{request.visitor} → {forward.url}")
        if not self._words.proxy_protocol:
            return b""
        header = header_v1 if self._words.proxy_protocol == 1 else header_v2
        return header(_address(request.visitor), _address(request.ingress))

    def unanswered(self, stream: Stream) -> None:
        stream.unanswered("service_timeout", "The client does not answer: does the service?")

    def closed(self, stream: Stream) -> None:
        begun = self._begun.pop(stream, None)
        if begun is not None:
            took = self._session.pump.loop.time() - begun
            self._connection_line(
                f"{stream.request.visitor} closed after {took:.1f} s,"
                f" {stream.bytes_sent} bytes in, {stream.bytes_received} out"
            )


def _address(text: str) -> Endpoint | None:
    try:
        return parse_address(text)
    except errors.InvalidError:
        return None


def _probe_answer(tunnel: RelayTunnel, nonce: str) -> bytes:
    body = nonce.encode()
    if tunnel.key[0] != "http":
        return body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


def agent_of(identity: Identity, user: str, address: str) -> str:
    """What tells two clients of one identity apart: the user name; of everybody, the address too."""
    text = f"{user}@{address}" if identity.anonymous else user
    return "ssh:" + hashlib.sha256(text.encode()).hexdigest()[:16]

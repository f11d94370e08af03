"""How agents come in: the handshakes of control connections and data channels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket, farewell, send_all
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay.auth import Authorizer, Identity, bearer
from tunnelkit.relay.egress import Egress
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.session import AgentSession
from tunnelkit.relay.sessions import Session
from tunnelkit.relay.tunnels import Tunnels
from tunnelkit.transport.websocket import (
    Control,
    Refusal,
    WebSocketProtocol,
    handshake_accepted,
    handshake_refused,
)
from tunnelkit.wire import messages
from tunnelkit.wire.http_head import RequestHead
from tunnelkit.wire.messages import CONTROL_PATH, EGRESS_PATH, SESSION_HEADER

__all__ = ["Door"]

log = logging.getLogger("tunnelkit")

HELLO_TIMEOUT = 10.0
"""Seconds for an agent to send its first message."""


class Door:
    """Lets agents in. ``on_gone(session)`` is called when a session has ended."""

    def __init__(
        self,
        pump: Pump,
        authorizer: Authorizer,
        limits: Limits,
        on_gone: Callable[[Session], None],
        egress: Egress,
    ) -> None:
        self.sessions: dict[str, AgentSession] = {}
        self.tunnels: Tunnels
        self.tasks = Tasks("agents")
        self.draining = False
        self._pump = pump
        self._authorizer = authorizer
        self._limits = limits
        self._on_gone = on_gone
        self._egress = egress
        self._unintroduced: set[Control] = set()

    async def agent_arrived(
        self, sock: AnySocket, address: tuple[str, int], head: RequestHead, raw: bytes, rest: bytes
    ) -> None:
        """Answer the handshake ``raw``; ``rest`` came behind it. Closes ``sock`` unless it is accepted."""
        accepted = False
        try:
            accepted = await self._answer(sock, head, raw, rest)
        except errors.AuthError as error:
            log.warning("an agent at %s:%d was refused: %s", *address, error.code)
            await send_all(sock, handshake_refused(Refusal(401, error)))
        except errors.LimitError as error:
            await send_all(sock, handshake_refused(Refusal(503, error)))
        except errors.TunnelkitError as error:
            log.warning("an agent at %s:%d was refused: %s", *address, error)
            await send_all(sock, handshake_refused(Refusal(400, error)))
        except OSError:
            pass  # it has gone
        finally:
            if not accepted:
                farewell(sock)

    async def _answer(self, sock: AnySocket, head: RequestHead, raw: bytes, rest: bytes) -> bool:
        token = bearer(head.get(b"authorization"))
        identity = await self._authorizer.authorize(token)
        if identity is None:
            what = "does not accept this token" if token else "wants a token, and none was given"
            raise errors.AuthError(f"The relay {what}")
        path = head.target.partition(b"?")[0].decode("latin-1")
        if path == CONTROL_PATH:
            if self.draining or len(self.sessions) >= self._limits.sessions:
                raise errors.LimitError("The relay takes no more agents now", hint="Try again later")
            protocol, answer = handshake_accepted(raw)
            await send_all(sock, answer)
            self._greet(sock, protocol, identity, rest)
            return True
        session, number = self._session_of(identity, head)
        _, answer = handshake_accepted(raw)
        if path == EGRESS_PATH:
            accepting = session.add_egress_channel(sock, number)
            accepting.preface(answer)
            accepting.start(rest)
            return True
        channel = session.add_channel(sock, number)
        channel.preface(answer)
        channel.start(rest)
        session.channel_free(channel)
        return True

    def _session_of(self, identity: Identity, head: RequestHead) -> tuple[AgentSession, int]:
        proof = (head.get(SESSION_HEADER.lower().encode()) or b"").decode("latin-1")
        name, secret, number = [*proof.split(":"), "", ""][:3]
        session = self.sessions.get(name)
        if session is None or session.identity != identity or not session.proves(secret):
            raise errors.AuthError(
                "The relay does not know this session", hint="The agent connects anew by itself"
            )
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise errors.ProtocolError("A data channel without a number")
        return session, int(number)

    # --- control connections --------------------------------------------------------------------

    def _greet(self, sock: AnySocket, protocol: WebSocketProtocol, identity: Identity, rest: bytes) -> None:
        """Wait for the agent's hello."""
        session: AgentSession | None = None

        def received(text: bytes) -> None:
            nonlocal session
            message = messages.decode_control_to_relay(text)
            if session is not None:
                if session.control is control:
                    self._message(session, message)
            elif isinstance(message, messages.Hello):
                impatience.cancel()
                self._unintroduced.discard(control)
                session = self._welcome(control, identity, message)
            else:
                raise errors.ProtocolError("A control connection that does not begin with hello")

        def lost(code: str) -> None:
            impatience.cancel()
            self._unintroduced.discard(control)
            if session is not None and session.control is control:
                log.info("agent of %s lost its connection (%s)", session.identity.name, code)
                session.detach()
                if not session.tunnels and not session.busy:
                    session.end()

        control = Control(self._pump, sock, protocol, on_text=received, on_lost=lost)
        self._unintroduced.add(control)
        impatience = self._pump.loop.call_later(HELLO_TIMEOUT, control.drop, "timeout")
        control.start(rest)

    def _welcome(self, control: Control, identity: Identity, hello: messages.Hello) -> AgentSession:
        session = self.sessions.get(hello.session) if hello.session else None
        resumed = session is not None and session.identity == identity and session.proves(hello.secret)
        if session is None or not resumed:
            agent = hello.agent[:128]
            session = AgentSession(self._pump, identity, agent, self._limits, self._gone, self._egress.open)
            self.sessions[session.id] = session
        session.attach(control)
        limits = self._limits
        session.send(
            messages.Welcome(
                session.id,
                session.secret,
                resumed,
                __version__,
                limits.ping_interval,
                limits.ping_timeout,
                limits.channels_per_session,
                egress=True,
            )
        )
        session.greeted()
        return session

    def _message(self, session: AgentSession, message: messages.ControlToRelay | None) -> None:
        match message:
            case messages.Request() if self.draining:
                error = errors.LimitError("The relay shuts down", hint="Try again later")
                session.send(messages.Refused(error.code, error.what, message.id, error.hint))
            case messages.Request():
                self.tasks.spawn(self.tunnels.request(session, message), f"tunnel {message.id}")
            case messages.Close(id=number) if number in session.tunnels:
                tunnel = session.tunnels[number]
                self.tasks.spawn(self.tunnels.close(tunnel, away=False), f"close tunnel {number}")
            case messages.Cancel():
                session.channel_cancelled(message)
            case messages.Goodbye():
                self.tasks.spawn(self._leave(session), "goodbye")
            case messages.Hello():
                raise errors.ProtocolError("A second hello")
            case _:
                pass  # closed already, or from a newer agent

    async def _leave(self, session: AgentSession) -> None:
        """The agent goes for good: its tunnels close now, what runs may finish while it is there."""
        session.draining = True
        for tunnel in list(session.tunnels.values()):
            await self.tunnels.close(tunnel, away=False)
        if not session.attached:
            session.end()

    def _gone(self, session: AgentSession) -> None:
        self.sessions.pop(session.id, None)
        self._on_gone(session)

    # --- the end --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let no new agent in; tell those that are there."""
        self.draining = True
        for session in list(self.sessions.values()):
            session.send(messages.Goodbye())

    async def close(self) -> None:
        """End all sessions."""
        await self.tasks.close()
        for control in list(self._unintroduced):
            control.drop("closed")
        for session in list(self.sessions.values()):
            session.end("relay_closed")
        await asyncio.sleep(0)

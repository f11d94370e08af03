"""The last step of a visitor's way: from a visitor's stream to the local service."""

from __future__ import annotations

from typing import Literal, Protocol

from tunnelkit.agent.events import Event, Listener
from tunnelkit.errors import InvalidError
from tunnelkit.net.dial import DialError, LocalDialer
from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.accept import AcceptedStream, Early, Traffic, answer_probe
from tunnelkit.wire.address import Endpoint, parse_address
from tunnelkit.wire.messages import Open
from tunnelkit.wire.proxy_protocol import header_v1, header_v2

__all__ = ["LocalService", "Service", "Traffic"]

_WHY = {
    "refused": ("service_refused", "nothing accepts connections at {target}"),
    "timeout": ("service_timeout", "no answer from {target} in time"),
    "unreachable": ("service_refused", "there is no way to {target}"),
    "unresolved": ("service_refused", "the host of {target} does not resolve"),
}


class Service(Protocol):
    """What is behind a tunnel."""

    proxy_protocol: int

    @property
    def traffic(self) -> Traffic:
        """What has passed."""

    def visit(self, stream: AcceptedStream, request: Open) -> None:
        """A visitor has come: accept it, or refuse."""

    async def close(self) -> None:
        """End all connections now."""


class LocalService:
    """Joins streams with connections to ``target``; ``proxy_protocol`` is 0, 1 or 2."""

    def __init__(
        self,
        pump: Pump,
        dialer: LocalDialer,
        *,
        kind: Literal["http", "tcp"],
        target: Endpoint,
        proxy_protocol: int,
        on_event: Listener,
        number: int,
    ) -> None:
        self.traffic = Traffic()
        self.proxy_protocol = proxy_protocol
        self._pump = pump
        self._dialer = dialer
        self._kind = kind
        self._target = target
        self._on_event = on_event
        self._number = number
        self._tasks = Tasks(f"tunnel {number}")

    def visit(self, stream: AcceptedStream, request: Open) -> None:
        """A visitor has come: dial the service."""
        if request.probe:
            self._answer_probe(stream, request.probe)
            return
        try:
            sock = self._dialer.try_now()
        except DialError as error:
            self._failed(stream, error)
            return
        if sock is not None:
            self._join(stream, sock, request, b"", ended=False)
            return
        early = Early(stream)
        stream.use(early)
        early.gone = self._tasks.spawn(self._dial(stream, request, early), "dial").cancel

    async def _dial(self, stream: AcceptedStream, request: Open, early: Early) -> None:
        try:
            sock = await self._dialer.dial()
        except DialError as error:
            if early.waits:
                self._failed(stream, error)
            return
        if not early.waits:
            sock.close()
            return
        self._join(stream, sock, request, bytes(early.data), ended=early.has_ended)

    def _join(
        self, stream: AcceptedStream, sock: AnySocket, request: Open, early: bytes, *, ended: bool
    ) -> None:
        stream.accept()
        join = Join(self._pump, sock, stream, self.traffic.end)
        self.traffic.begin(join)
        stream.use(join)
        if self.proxy_protocol:
            header = header_v1 if self.proxy_protocol == 1 else header_v2
            early = header(_address(request.visitor), _address(request.ingress)) + early
        join.start()
        if early:
            join.payload(early)
        if ended:
            join.ended()
        if join.flowing:
            stream.resume()

    def _failed(self, stream: AcceptedStream, error: DialError) -> None:
        code, words = _WHY[error.kind]
        what = words.format(target=self._target)
        self.traffic.failed += 1
        stream.refuse(code, what)
        self._on_event(Event("service_error", what[0].upper() + what[1:], self._number, code))

    def _answer_probe(self, stream: AcceptedStream, nonce: str) -> None:
        answer = nonce.encode()
        if self._kind == "http":
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
                len(answer),
                answer,
            )
        answer_probe(stream, answer)

    async def close(self) -> None:
        """End all connections now."""
        self.traffic.cancel("agent_closed")
        try:
            await self._tasks.close()
        finally:
            self._dialer.close()


def _address(text: str) -> Endpoint | None:
    try:
        return parse_address(text)
    except InvalidError:
        return None

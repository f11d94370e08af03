"""The last step of a visitor's way: from a visitor's stream to the local service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from tunnelkit.agent.events import Event, Listener
from tunnelkit.agent.link import AgentStream
from tunnelkit.errors import InvalidError
from tunnelkit.net.dial import DialError, LocalDialer
from tunnelkit.net.pump import READ_SIZE, Join, Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.tasks import Tasks
from tunnelkit.wire.address import Endpoint, parse_address
from tunnelkit.wire.messages import Open
from tunnelkit.wire.proxy_protocol import header_v1, header_v2

__all__ = ["LocalService", "Traffic"]

_WHY = {
    "refused": ("service_refused", "nothing accepts connections at {target}"),
    "timeout": ("service_timeout", "no answer from {target} in time"),
    "unreachable": ("service_refused", "there is no way to {target}"),
    "unresolved": ("service_refused", "the host of {target} does not resolve"),
}


@dataclass(slots=True)
class Traffic:
    """What has passed through a tunnel, in bytes as seen from the visitor."""

    connections: int = 0
    """Since the beginning."""
    received: int = 0
    sent: int = 0
    failed: int = 0
    _open: set[Join] = field(default_factory=set)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def totals(self) -> tuple[int, int]:
        """Bytes from visitors and to them, those of open connections included."""
        return (
            self.received + sum(join.sent for join in self._open),
            self.sent + sum(join.received for join in self._open),
        )

    def begin(self, join: Join) -> None:
        self.connections += 1
        self._open.add(join)

    def end(self, join: Join, code: str | None) -> None:
        self._open.discard(join)
        self.received += join.sent
        self.sent += join.received

    def cancel(self, code: str) -> None:
        """Abort what is open."""
        for join in list(self._open):
            join.cancel(code)


class _Early:
    """The user of a stream while the service is dialled: keeps what comes, up to one buffer."""

    dialling: asyncio.Task[None]

    def __init__(self, stream: AgentStream) -> None:
        self.data = bytearray()
        self.has_ended = False
        self._stream = stream

    def payload(self, data: memoryview | bytes) -> None:
        self.data += data
        if len(self.data) >= READ_SIZE:
            self._stream.pause()

    def ended(self) -> None:
        self.has_ended = True

    def refused(self, code: str, what: str) -> None: ...

    def aborted(self, code: str) -> None:
        self.dialling.cancel()

    def drained(self) -> None: ...


class _Answering:
    """The user of a probe's stream: the answer has been sent, the rest is thrown away."""

    def __init__(self, stream: AgentStream) -> None:
        self._stream = stream

    def payload(self, data: memoryview | bytes) -> None: ...

    def ended(self) -> None:
        self._stream.delivered()

    def refused(self, code: str, what: str) -> None: ...
    def aborted(self, code: str) -> None: ...
    def drained(self) -> None: ...


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

    def visit(self, stream: AgentStream, request: Open) -> None:
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
        early = _Early(stream)
        stream.use(early)
        early.dialling = self._tasks.spawn(self._dial(stream, request, early), "dial")

    async def _dial(self, stream: AgentStream, request: Open, early: _Early) -> None:
        try:
            sock = await self._dialer.dial()
        except DialError as error:
            if stream.user is early:
                self._failed(stream, error)
            return
        if stream.user is not early or stream.closed:
            sock.close()
            return
        self._join(stream, sock, request, bytes(early.data), ended=early.has_ended)

    def _join(
        self, stream: AgentStream, sock: AnySocket, request: Open, early: bytes, *, ended: bool
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

    def _failed(self, stream: AgentStream, error: DialError) -> None:
        code, words = _WHY[error.kind]
        what = words.format(target=self._target)
        self.traffic.failed += 1
        stream.refuse(code, what)
        self._on_event(Event("service_error", what[0].upper() + what[1:], self._number, code))

    def _answer_probe(self, stream: AgentStream, nonce: str) -> None:
        answer = nonce.encode()
        if self._kind == "http":
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
                len(answer),
                answer,
            )
        stream.accept()
        stream.use(_Answering(stream))
        stream.send(answer)
        stream.end(delivered=False)

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

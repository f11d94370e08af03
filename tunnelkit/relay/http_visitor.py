"""One visitor's connection to the HTTP ingress: HTTP/1.0 or 1.1 (RFC 9112), one request at a time.

The head decides where a request goes; bodies pass through unparsed but for their framing. What
waits is bounded: one buffer each way, then TCP's window does the rest.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from tunnelkit.errors import LimitError, TunnelkitError
from tunnelkit.net.pump import READ_SIZE
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import Stream
from tunnelkit.relay.http_upstream import Upstream
from tunnelkit.relay.pages import error_page
from tunnelkit.relay.registry import Away, RelayTunnel
from tunnelkit.wire.http_body import ChunkScanner
from tunnelkit.wire.http_head import (
    MAX_HEAD,
    Framing,
    HeadError,
    RequestHead,
    build_request,
    find_head_end,
    forwarded_block,
    parse_request,
)

if TYPE_CHECKING:
    from tunnelkit.relay.ingress_http import HttpIngress

__all__ = ["HttpVisitor"]

LINGER_BYTES = 1 << 20
"""Bytes a visitor may still send while it is told why its request is refused. Closing at once would
reset the connection, and the visitor would not see the answer (RFC 9112 §9.6)."""


class _State(Enum):
    HEAD = auto()
    """Waits for a request."""
    BODY = auto()
    """A request's body is under way."""
    WAIT = auto()
    """The request is whole; its response is under way, or a channel is waited for."""
    LINGER = auto()
    """The last answer is out; what still comes is thrown away."""
    CLOSED = auto()


class HttpVisitor:
    """See the module. ``address`` is the visitor's; ``tunnel`` is set on a tunnel's own port."""

    __slots__ = (
        "_after_flush",
        "_buffer",
        "_fixed",
        "_forwarded",
        "_forwarded_host",
        "_host",
        "_ingress",
        "_keep",
        "_left",
        "_pending",
        "_probe",
        "_pump",
        "_reading",
        "_request",
        "_retried",
        "_scanner",
        "_sock",
        "_state",
        "_tunnel",
        "_upstream",
        "address",
        "fd",
        "head",
        "request_done",
        "stalled_since",
    )

    head: RequestHead

    def __init__(
        self,
        ingress: HttpIngress,
        sock: AnySocket,
        address: tuple[str, int],
        tunnel: RelayTunnel | None,
        probe: str,
    ) -> None:
        self.address = address
        self.fd = sock.fileno()
        self.stalled_since = 0.0
        self.request_done = True
        """Whether the current request has been passed on whole."""
        self._ingress = ingress
        self._pump = ingress.pump
        self._sock = sock
        self._fixed = tunnel
        self._tunnel: RelayTunnel | None = None
        self._host = b""  # the Host that led to _tunnel
        self._probe = probe
        self._forwarded = b""
        self._forwarded_host: bytes | None = None
        self._state = _State.HEAD
        self._upstream: Upstream | None = None
        self._buffer = b""  # received and not yet looked at
        self._pending: bytearray | None = None  # to be sent to the visitor
        self._request = b""  # the request as sent, while it may have to be sent again
        self._retried = False
        self._left = 0
        self._scanner: ChunkScanner | None = None
        self._keep = True
        self._after_flush: Callable[[], None] | None = None  # what to do once what is pending is out
        self._reading = False
        ingress.heads[self] = ingress.now() + ingress.limits.head_timeout
        self._read()

    # --- receiving ------------------------------------------------------------------------------

    def _read(self) -> None:
        if not self._reading:
            self._reading = True
            self._pump.poller.add_reader(self.fd, self._readable)
            self._pump.unwatch(self)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
            self._pump.watch(self)

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._pump.area)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        data = self._pump.area[:count]
        if not count:
            self._end()
        elif self._state is _State.HEAD:
            self._heads(self._buffer + data if self._buffer else bytes(data))
        elif self._state is _State.BODY:
            self._body(data, buffered=True)
        elif self._state is _State.LINGER:
            self._left -= count
            if self._left < 0:
                self.abort()
        else:
            self._buffer += data  # the next request, sent early: it waits its turn
            self._pause()

    def _end(self) -> None:
        """The visitor sends no more."""
        self._pause()
        if self._state is _State.WAIT:
            self._keep = False  # half-close: it still gets its answer
        elif self._state is _State.BODY:
            self.abort()
        else:
            self._shut()

    def _heads(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 §2.2
        ingress = self._ingress
        try:
            end = find_head_end(data)
            if end < 0:
                if len(data) > MAX_HEAD:
                    raise HeadError("A request head that is too long", status=431)
                self._buffer = data
                ingress.head_started(self)
                return
            self.head = head = parse_request(data[:end])
        except HeadError as error:
            self.refuse(error.status, error.code, error.what)
            return
        ingress.head_done(self)
        self._buffer = b""
        self._retried = False
        rest = data[end:]
        tunnel = self._fixed or (self._tunnel if head.host == self._host else None)
        if tunnel is not None and not tunnel.closed:
            self._begin(head, rest, tunnel)
        else:
            self._state = _State.WAIT
            self._pause()
            ingress.tasks.spawn(self._route(head, data[:end], rest), "route")

    async def _route(self, head: RequestHead, raw: bytes, rest: bytes) -> None:
        if self._ingress.is_agent(head) and self._fixed is None:
            self._detach()
            await self._ingress.agent_arrived(self._sock, self.address, head, raw, rest)
            return
        found = await self._ingress.find(head)
        if self._state is _State.CLOSED:
            return
        if isinstance(found, RelayTunnel) and not found.closed and self._fixed is None:
            self._tunnel, self._host = found, head.host
            self._begin(head, rest, found)
        elif isinstance(found, Away):
            self.refuse(503, "agent_away")
        else:
            self.refuse(404, "no_tunnel")

    # --- the request ----------------------------------------------------------------------------

    def _begin(self, head: RequestHead, rest: bytes, tunnel: RelayTunnel) -> None:
        """Pass a request on, with what of its body has come."""
        if head.host != self._forwarded_host:
            self._forwarded = forwarded_block(self.address[0], self.address[1], "http", head.host)
            self._forwarded_host = head.host
        host = tunnel.host_header or head.host or tunnel.host.encode()
        data = build_request(head, host=host, forwarded=self._forwarded)
        body = head.body
        self._tunnel = tunnel
        self._keep = head.keep_alive
        if body is Framing.NONE:
            self.request_done = True
            self._state = _State.WAIT
            self._buffer = rest
        else:
            self.request_done = False
            self._state = _State.BODY
            self._left = head.length
            self._scanner = ChunkScanner() if body is Framing.CHUNKED else None
            if rest:
                try:
                    taken = self._scan(rest)
                except HeadError as error:
                    self.refuse(error.status, error.code, error.what)
                    return
                data += rest[:taken]
                self._buffer = rest[taken:]
        repeatable = head.repeatable
        self._request = data if repeatable else b""
        self._ingress.response_awaited(self)
        upstream = self._ingress.reusable(tunnel, repeatable=repeatable)
        if upstream is not None:
            self._upstream = upstream
            upstream.carry(self, head.method)
            self._sent(upstream.stream.send(data))
        else:
            self._open(tunnel, data)

    def _open(self, tunnel: RelayTunnel, data: bytes) -> None:
        """Send the request ``data`` on a new stream."""
        channel = tunnel.session.take()
        if channel is None:
            self._pause()
            self._ingress.tasks.spawn(self._wait_and_open(tunnel, data), "wait for a channel")
            return
        self._upstream = upstream = Upstream(self._ingress, tunnel, channel)
        upstream.carry(self, self.head.method)
        self._ingress.open(tunnel, channel, upstream, self.address, data, self._probe)
        self._sent(not channel.blocked)

    async def _wait_and_open(self, tunnel: RelayTunnel, data: bytes) -> None:
        try:
            channel = await tunnel.session.acquire()
        except LimitError as error:
            self.fail(503, error.code)
            return
        except TunnelkitError:
            self.fail(503, "agent_away")
            return
        tunnel.session.channel_free(channel)
        if self._state is not _State.CLOSED:
            self._open(tunnel, data)

    def _sent(self, going: bool) -> None:
        """What was sent upstream went out (``going``) or is kept there: read on, or wait."""
        if not going and self._state is _State.BODY:
            self._pause()
        elif not self._buffer:
            self._read()
        else:
            self._pause()

    def _scan(self, data: bytes | memoryview) -> int:
        """How many bytes of ``data`` belong to the request's body; notes if it is whole."""
        if self._scanner is not None:
            taken = self._scanner.feed(data)
            done = self._scanner.done
        else:
            taken = min(len(data), self._left)
            self._left -= taken
            done = not self._left
        if done:
            self.request_done = True
            self._scanner = None
            self._state = _State.WAIT
        return taken

    def _body(self, data: memoryview, *, buffered: bool) -> None:
        upstream = self._upstream
        assert upstream is not None
        try:
            taken = self._scan(data)
        except HeadError:
            upstream.cancel("visitor_invalid")
            self._upstream = None
            self.refuse(400, "http_head")
            return
        if taken < len(data):
            self._buffer = bytes(data[taken:])
        if buffered and taken < READ_SIZE:
            self._sent(upstream.stream.send_buffered(taken))
        else:
            self._sent(upstream.stream.send(data[:taken]))

    def upstream_drained(self) -> None:
        """What was kept upstream has gone out."""
        if not self._buffer and self._state is not _State.LINGER:
            self._read()

    # --- the response ---------------------------------------------------------------------------

    def answered(self, *, delimited: bool) -> bool:
        """A response begins; whether the connection stays open after it."""
        self._request = b""
        self._ingress.response_begun(self)
        self._keep = self._keep and delimited and self.request_done and not self._ingress.draining
        return self._keep

    def write(self, data: bytes | memoryview) -> None:
        """Send to the visitor; what it does not take is kept, and the service made to wait."""
        if self._pending is not None:
            self._pending += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._pump.loop.call_soon(self.abort)  # the caller is in the midst of something
            return
        if sent < len(data):
            self._pending = bytearray(data[sent:])
            self.stalled_since = self._pump.loop.time()
            if self._upstream is not None:
                self._upstream.stream.pause()
            self._pump.poller.add_writer(self.fd, self._writable)
            self._pump.watch(self)

    def _writable(self) -> None:
        assert self._pending is not None
        try:
            del self._pending[: self._sock.send(self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        self.stalled_since = self._pump.loop.time()
        if self._pending:
            return
        self._pending = None
        self.stalled_since = 0.0
        self._pump.poller.remove_writer(self.fd)
        if self._reading:
            self._pump.unwatch(self)
        if self._after_flush is not None:
            then, self._after_flush = self._after_flush, None
            then()
        elif self._upstream is not None:
            self._upstream.stream.resume()

    def response_done(self) -> None:
        """The response is whole: on to the next request, or to the end, once all of it is out."""
        upstream, self._upstream = self._upstream, None
        if self._pending is None:
            self._go_on()
        else:
            if upstream is not None:
                upstream.stream.resume()  # it is somebody else's now
            self._after_flush = self._go_on

    def _go_on(self) -> None:
        if not self._keep or self._ingress.draining:
            self._linger()
            return
        self._state = _State.HEAD
        if self._buffer:
            self._pump.loop.call_soon(self._next)
        else:
            self._ingress.idle_started(self)
            self._read()

    def _next(self) -> None:
        if self._state is _State.HEAD and self._buffer:
            data, self._buffer = self._buffer, b""
            self._read()
            self._heads(data)

    def no_answer(self, code: str, *, again: bool) -> None:
        """The service, or the way to it, ended before it answered."""
        self._upstream = None
        if again and self._request and not self._retried and self._tunnel is not None:
            self._retried = True
            self._open(self._tunnel, self._request)
        elif code == "service_closed" or code == "reset":
            self.fail(502, "service_closed")
        else:
            self.fail(503, "agent_away")

    def upgrade(self, stream: Stream, data: bytes) -> None:
        """The service has switched protocols: from now on bytes pass both ways as they are."""
        self._detach()
        self._ingress.join(self._sock, stream, received=self._buffer, answer=data, pending=self._pending)

    def fail(self, status: int, code: str) -> None:
        """Answer a well-formed request with an error of ours."""
        self._upstream = None
        if self._state is not _State.CLOSED:
            self.refuse(status, code)

    def refuse(self, status: int, code: str, what: str = "") -> None:
        """Answer with an error page and close. The service sees nothing of it."""
        head = getattr(self, "head", None)
        html = head is not None and b"text/html" in head.accept
        host = head.host_name if head is not None else ""
        body = head is None or head.method != b"HEAD"
        self._ingress.response_begun(self)
        self.write(error_page(status, code, host=host, html=html, what=what, body=body))
        self._close()

    # --- the end --------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._pending is not None:
            self._after_flush = self._linger
        else:
            self._linger()

    def _linger(self) -> None:
        """Close; if the visitor may still be sending, let it see the answer first."""
        if self._state is _State.WAIT and not self._buffer and self.request_done:
            self._shut()
            return
        self._state = _State.LINGER
        self._left = LINGER_BYTES
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._ingress.linger_started(self)
        self._read()

    def _detach(self) -> None:
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self.fd)
        if self._pending is not None:
            self._pump.poller.remove_writer(self.fd)
        self._pump.unwatch(self)
        self._state = _State.CLOSED
        self._ingress.gone(self)

    def _shut(self) -> None:
        if self._state is not _State.CLOSED:
            self._detach()
            self._sock.close()

    def abort(self) -> None:
        """End at once: the visitor sees that what it has is not all there is."""
        upstream, self._upstream = self._upstream, None
        if self._state is not _State.CLOSED:
            self._detach()
            self._pump.reset(self._sock)
        if upstream is not None:
            upstream.cancel("visitor_gone")

    def timed_out(self) -> None:
        """A wait of the visitor's has ended: an idle connection goes quietly, a slow one is told."""
        if self._state is _State.HEAD and self._buffer:
            self.refuse(408, "head_timeout", "The request did not arrive in time")
        elif self._state in (_State.HEAD, _State.LINGER):
            self._shut()
        elif self._upstream is not None:
            self._upstream.cancel("service_timeout")
            self.fail(504, "service_timeout")

    def drain(self) -> None:
        """The relay shuts down: an idle connection goes, a busy one after its response."""
        self._keep = False
        if self._state is _State.HEAD and not self._buffer:
            self._shut()

    def watched_fd(self) -> int:
        return self.fd

    def broken(self) -> None:
        self.abort()

    def stalled(self) -> None:
        self.abort()

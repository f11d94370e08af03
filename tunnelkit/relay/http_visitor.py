"""One visitor's connection to the HTTP ingress: HTTP/1.0 or 1.1 (RFC 9112), one request at a time.

The head decides where a request goes; bodies pass through unparsed but for their framing. What
waits is bounded: one buffer each way, then TCP's window does the rest.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from tunnelkit.errors import LimitError, TunnelkitError
from tunnelkit.net.http_connection import HttpConnection
from tunnelkit.net.pump import READ_SIZE
from tunnelkit.net.sockets import AnySocket, farewell
from tunnelkit.net.stream import Stream
from tunnelkit.relay.http_upstream import Upstream
from tunnelkit.relay.pages import error_page
from tunnelkit.relay.registry import Away, RelayTunnel
from tunnelkit.relay.sessions import SessionStream
from tunnelkit.wire.http_body import ChunkScanner
from tunnelkit.wire.http_head import (
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


class HttpVisitor(HttpConnection):
    """See the module. ``address`` is the visitor's; ``tunnel`` is set on a tunnel's own port."""

    __slots__ = (
        "_admitted",
        "_buffer",
        "_fixed",
        "_forwarded",
        "_forwarded_host",
        "_host",
        "_ingress",
        "_keep",
        "_left",
        "_moved",
        "_previous",
        "_probe",
        "_request",
        "_retried",
        "_scanner",
        "_state",
        "_tunnel",
        "_upstream",
        "address",
        "head",
        "request_done",
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
        super().__init__(ingress.pump, sock)
        self.address = address
        self.request_done = True
        """Whether the current request has been passed on whole."""
        self._ingress = ingress
        self._fixed = tunnel
        self._tunnel: RelayTunnel | None = None
        self._host = b""  # the Host that led to _tunnel
        self._admitted: bytes | None = None  # the last Host that may be asked for this way
        self._previous: RequestHead | None = None  # browsers say much the same each time
        self._probe = probe
        self._forwarded = b""
        self._forwarded_host: bytes | None = None
        self._state = _State.HEAD
        self._upstream: Upstream | None = None
        self._buffer = b""  # received and not yet looked at
        self._request = b""  # the request as sent, while it may have to be sent again
        self._retried = False
        self._left = 0
        self._moved = False  # the request's body has gone on since its clock was looked at
        self._scanner: ChunkScanner | None = None
        self._keep = True
        ingress.heads[self] = ingress.now() + ingress.limits.head_timeout
        self._read()

    # --- receiving ------------------------------------------------------------------------------

    def begin(self, received: bytes) -> None:
        """Take what has been received already."""
        self._heads(received)

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
            if self._buffer:
                self._heads(self._buffer + data, len(self._buffer))
            else:
                self._heads(bytes(data))
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

    def _heads(self, data: bytes, searched: int = 0) -> None:
        """Take what begins with a head; its first ``searched`` bytes have been looked through."""
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 §2.2
            searched = 0
        ingress = self._ingress
        try:
            end = find_head_end(data, 0, searched)
            if end < 0:
                self._buffer = data
                ingress.head_started(self)
                self._read()
                return
            self.head = self._previous = head = parse_request(data[:end], self._previous)
        except HeadError as error:
            self.refuse(error.status, error.code, error.what)
            return
        ingress.head_done(self)
        self._buffer = b""
        self._retried = False
        if ingress.secured is not None and head.host != self._admitted:
            agent = self._fixed is None and ingress.is_agent(head)
            if page := ingress.secured.turned_away(self._sock, self.address[0], head, agent=agent):
                self._refuse(page)
                return
            self._admitted = None if agent else head.host
        rest = data[end:]
        tunnel = self._fixed or (self._tunnel if head.host == self._host else None)
        if tunnel is not None and not tunnel.closed:
            self._begin(head, rest, tunnel)
        else:
            self._state = _State.WAIT
            self.request_done = head.body is Framing.NONE
            self._pause()
            ingress.tasks.spawn(self._route(head, data[:end], rest), "route")

    @property
    def local_address(self) -> tuple[str, int]:
        """The public address that the visitor came to."""
        host, port = self._sock.getsockname()[:2]  # type: ignore[index]  # never AF_UNIX
        return host, port

    @property
    def scheme(self) -> str:
        """What the visitor's URL begins with."""
        return "https" if self._greedy else "http"

    @property
    def _closed(self) -> bool:
        return self._state is _State.CLOSED

    async def _route(self, head: RequestHead, raw: bytes, rest: bytes) -> None:
        if self._closed:
            return
        if self._ingress.is_agent(head) and self._fixed is None:
            self._detach()
            await self._ingress.agent_arrived(self._sock, self.address, head, raw, rest)
            return
        found = await self._ingress.find(head)
        if self._closed:
            return
        if isinstance(found, RelayTunnel) and not found.closed and self._fixed is None:
            self._tunnel, self._host = found, head.host
            self._begin(head, rest, found)
        elif isinstance(found, Away):
            self.fail(503, "agent_away")
        elif found is None and self._ingress.awaits(head):
            self.fail(503, "relay_starting")
        else:
            self.fail(404, "no_tunnel")

    # --- the request ----------------------------------------------------------------------------

    def _begin(self, head: RequestHead, rest: bytes, tunnel: RelayTunnel) -> None:
        """Pass a request on, with what of its body has come."""
        if head.host != self._forwarded_host:
            self._forwarded = forwarded_block(self.address[0], self.address[1], self.scheme, head.host)
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
        # A probe has to reach the agent; a kept-alive connection would lead it to the service.
        upstream = None if self._probe else self._ingress.reusable(tunnel, repeatable=repeatable)
        if upstream is not None:
            self._upstream = upstream
            upstream.carry(self, head.method)
            self._sent(upstream.stream.send(data))
        else:
            self._open(tunnel, data)

    def _open(self, tunnel: RelayTunnel, data: bytes, channel: SessionStream | None = None) -> None:
        """Send the request ``data`` on a new stream, through ``channel`` if one was waited for."""
        channel = channel or tunnel.session.take()
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
        if self._state is _State.CLOSED:
            tunnel.session.channel_free(channel)
        else:
            self._open(tunnel, data, channel)

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
        self._moved = True
        try:
            taken = self._scan(data)
        except HeadError as error:
            if upstream.answering:
                self.abort()
                return
            upstream.cancel("visitor_invalid")
            self._upstream = None
            self.refuse(error.status, error.code, error.what)
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

    def _blocked(self) -> None:
        if self._upstream is not None:
            self._upstream.stream.pause()

    def _flushed(self) -> None:
        if self._upstream is not None:
            self._upstream.stream.resume()

    def response_done(self) -> None:
        """The response is whole: on to the next request, or to the end, once all of it is out."""
        upstream, self._upstream = self._upstream, None
        if self._pending is None:
            self._go_on()
            return
        if upstream is not None:
            upstream.stream.resume()  # it is somebody else's now
        self._once_flushed(self._go_on)

    def response_broken(self) -> None:
        """The response ends here, and not whole: the visitor is to see that, after what has come."""
        self._upstream = None
        self._once_flushed(self.abort)

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
            self._heads(data)

    def no_answer(self, code: str, *, again: bool) -> None:
        """The service, or the way to it, ended before it answered."""
        self._upstream = None
        if again and self._request and not self._retried and self._tunnel is not None:
            self._retried = True
            self._open(self._tunnel, self._request)
        elif code == "stalled":
            self.fail(504, "service_timeout")
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
            head = self.head
            html = b"text/html" in head.accept
            body = head.method != b"HEAD"
            self._refuse(error_page(status, code, host=head.host_name, html=html, body=body))

    def refuse(self, status: int, code: str, what: str) -> None:
        """Answer what is no request, and say why. The service sees nothing of it."""
        self._refuse(error_page(status, code, what=what))

    def _refuse(self, page: bytes) -> None:
        self._ingress.head_done(self)
        self._ingress.response_begun(self)
        self.write(page)
        self._once_flushed(self._linger)

    # --- the end --------------------------------------------------------------------------------

    def _linger(self) -> None:
        """Close; if the visitor may still be sending, let it see the answer first."""
        quiet = (
            self._state is _State.WAIT and self.request_done and not (self._buffer or self.head.keep_alive)
        )
        if quiet and not self._greedy:
            self._shut()
            return
        self._state = _State.LINGER
        self._left = LINGER_BYTES
        self._ingress.linger_started(self)
        try:
            self._end_sending(self._read)
        except OSError:
            self.abort()

    def _detach(self) -> None:
        self._release()
        self._state = _State.CLOSED
        self._ingress.gone(self)

    def _shut(self) -> None:
        if self._state is not _State.CLOSED:
            self._detach()
            farewell(self._sock)

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
        elif self._moved:
            self._moved = False  # the request was still under way
            self._ingress.response_awaited(self)
        elif self._upstream is not None:
            self._upstream.cancel("service_timeout")
            if self.request_done:
                self.fail(504, "service_timeout")
            else:
                self.fail(408, "body_timeout")

    def drain(self) -> None:
        """The relay shuts down: an idle connection goes, a busy one after its response."""
        self._keep = False
        if self._state is _State.HEAD and not self._buffer:
            self._shut()

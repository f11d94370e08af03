"""A client that speaks HTTP to the proxy: CONNECT, and requests for ``http://`` URLs, one at a time.

Bodies pass through unparsed but for their framing. What waits is bounded: one buffer each way, then
TCP's window does the rest.
"""

from __future__ import annotations

import asyncio
import socket
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from tunnelkit.egress.access import Access
from tunnelkit.egress.http_body import RequestBody
from tunnelkit.egress.http_login import HttpLogin
from tunnelkit.egress.http_origin import VIA, HttpOrigin
from tunnelkit.egress.http_pages import refusal
from tunnelkit.errors import ProxyAuthError, TunnelkitError
from tunnelkit.net.http_connection import HttpConnection
from tunnelkit.net.pump import READ_SIZE
from tunnelkit.net.sockets import AnySocket
from tunnelkit.net.stream import Outgoing, Target
from tunnelkit.wire.http_head import HeadError, RequestHead, build_request, find_head_end
from tunnelkit.wire.http_proxy import (
    CONNECT,
    Connect,
    Forward,
    parse_connect,
    parse_forward,
)

if TYPE_CHECKING:
    from tunnelkit.egress.front import Front

__all__ = ["HttpClient"]

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

REUSE_AT_ONCE = 1.0
"""A request that must not be sent twice goes out on a connection used at most this many seconds ago,
or on a fresh one: a server that closes idle connections does not do it that soon."""

LINGER_BYTES = 1 << 20
"""Bytes a client may still send while it is told why its request is refused. Closing at once would
reset the connection, and the client would not see the answer (RFC 9112 §9.6)."""


class _State(Enum):
    HEAD = auto()
    """Waits for a request."""
    BODY = auto()
    """A request's body is under way."""
    WAIT = auto()
    """The request is whole; its response is under way, or something is waited for."""
    LINGER = auto()
    """The last answer is out; what still comes is thrown away."""
    CLOSED = auto()


class HttpClient(HttpConnection):
    """See the module."""

    __slots__ = (
        "_access",
        "_begun",
        "_buffer",
        "_front",
        "_keep",
        "_left",
        "_login",
        "_moved",
        "_no_body",
        "_origin",
        "_previous",
        "_request",
        "_request_body",
        "_retried",
        "_sent_bytes",
        "_state",
        "_task",
        "_wanted",
        "address",
        "head",
        "request_done",
    )

    head: RequestHead

    def __init__(self, front: Front, sock: AnySocket, address: tuple[str, int]) -> None:
        super().__init__(front.pump, sock)
        self.address = address
        self._login = HttpLogin(front.users)
        self.request_done = True
        """Whether the current request has been passed on whole."""
        self._front = front
        self._access: Access | None = None  # of the current request
        self._begun = 0.0
        self._buffer = b""  # received and not yet looked at
        self._keep = True
        self._left = 0
        self._moved = False  # the request's body has gone on since its clock was looked at
        self._no_body = False  # it is a HEAD: its answer has none
        self._origin: HttpOrigin | None = None
        self._previous: RequestHead | None = None  # clients say much the same each time
        self._request = b""  # the request as sent, while it may have to be sent again
        self._retried = False
        self._request_body: RequestBody | None = None
        self._sent_bytes = 0
        self._state = _State.HEAD
        self._task: asyncio.Task[Any] | None = None
        self._wanted: tuple[str, int] = ("", 0)

    def begin(self, data: bytes) -> None:
        """Begin; ``data`` has been received already."""
        self._read()
        self._heads(data)

    # --- receiving ------------------------------------------------------------------------------

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
            self._heads(self._buffer + data, len(self._buffer))
        elif self._state is _State.BODY:
            self._body(data)
        elif self._state is _State.LINGER:
            self._left -= count
            if self._left < 0:
                self.abort()
        else:
            self._buffer += data  # sent early: it waits its turn
            self._pause()

    def _end(self) -> None:
        """The client sends no more."""
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
            data, searched = data[2:], 0  # RFC 9112 §2.2
        front = self._front
        try:
            end = find_head_end(data, 0, searched)
            if end < 0:
                self._buffer = data
                front.head_started(self)
                self._read()
                return
            wanted: Connect | Forward
            if data.startswith(CONNECT):
                wanted = parse_connect(data[:end])
                authorization = wanted.authorization
                self._no_body = False
            else:
                wanted = parse_forward(data[:end], self._previous)
                self.head = self._previous = wanted.head
                self._no_body = wanted.head.method == b"HEAD"
                authorization = b""
                if front.users is not None:
                    authorization = wanted.head.get(b"proxy-authorization") or b""
        except HeadError as error:
            self.refuse(error.status, error.code, error.what)
            return
        front.head_done(self)
        self._buffer = data[end:]
        self._state = _State.WAIT
        protocol = "connect" if isinstance(wanted, Connect) else "http"
        self._access = Access(self.address, protocol, self._login.user, wanted.host, wanted.port)
        self._begun = front.now()
        self._sent_bytes = 0
        known = self._login.known(authorization)
        if known is None:
            self._pause()
            self._task = front.tasks.spawn(self._check(wanted, authorization), "check a password")
        else:
            self._judged(wanted, known=known)

    async def _check(self, wanted: Connect | Forward, authorization: bytes) -> None:
        known = await self._login.check(authorization)
        self._task = None
        if self._state is not _State.CLOSED:
            self._judged(wanted, known=known)

    def _judged(self, wanted: Connect | Forward, *, known: bool) -> None:
        assert self._access is not None
        self._access.user = self._login.user
        if known:
            self._admitted(wanted)
        else:
            self.refuse(407, ProxyAuthError.code, "The proxy asks for a user name and a password")

    def _admitted(self, wanted: Connect | Forward) -> None:
        if isinstance(wanted, Connect):
            target = Target(wanted.host, wanted.port, self.address[0], self._login.user)
            self._drop_origin()
            self._open(target, self._connected)
        else:
            self._forward(wanted)

    def _open(self, target: Target, opened: Any) -> None:
        task = self._front.open(target, opened, self._open_failed)
        if task is not None:
            self._task = task

    def _open_failed(self, error: TunnelkitError) -> None:
        self._task = None
        if self._state is not _State.CLOSED:
            self.refuse(0, error.code, error.what)

    # --- CONNECT --------------------------------------------------------------------------------

    def _connected(self, stream: Outgoing) -> None:
        self._task = None
        access = self._access
        if self._state is _State.CLOSED or access is None:
            self._discard(stream)
            return
        access.source = stream.source
        self._leave()
        answer = bytes(self._pending or b"") + CONNECTED
        self._front.join(self, self._sock, stream, access, early=self._buffer, answer=answer)

    def _discard(self, stream: Outgoing) -> None:
        stream.cancel("client_gone")
        self._front.quota.give_back(self._login.user or self.address[0])

    # --- a request ------------------------------------------------------------------------------

    def _forward(self, wanted: Forward) -> None:
        """Pass a request on, with what of its body has come."""
        head = wanted.head
        data = build_request(head, host=wanted.authority, forwarded=VIA)
        self._keep = head.keep_alive
        self._retried = False
        self._request_body = body = RequestBody(head)
        self.request_done = body.done
        if not self.request_done:
            self._state = _State.BODY
            rest, self._buffer = self._buffer, b""
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
        self._wanted = (wanted.host, wanted.port)
        self._front.response_awaited(self)
        origin = self._origin
        recent = origin is not None and self._front.now() - origin.last_used < REUSE_AT_ONCE
        if origin is not None and origin.place == self._wanted and (repeatable or recent):
            self._carry(origin, data)
        else:
            self._drop_origin()
            self._dial(data)

    def _dial(self, data: bytes) -> None:
        self._pause()
        target = Target(*self._wanted, self.address[0], self._login.user)
        self._open(target, lambda stream: self._opened(stream, data))

    def _opened(self, stream: Outgoing, data: bytes) -> None:
        self._task = None
        if self._state in (_State.CLOSED, _State.LINGER):
            self._discard(stream)
            return
        self._origin = origin = HttpOrigin(self._front, self, stream, self._wanted)
        stream.use(origin)
        self._carry(origin, data)
        if self._origin is origin:
            stream.resume()

    def _carry(self, origin: HttpOrigin, data: bytes) -> None:
        if self._access is not None:
            self._access.source = origin.stream.source
        self._sent_bytes += len(data)
        origin.carry(self.head.method)
        self._sent(origin.stream.send(data))

    def _sent(self, going: bool) -> None:
        """What was sent went out (``going``) or is kept: read on, or wait."""
        if self._buffer or (not going and self._state is _State.BODY):
            self._pause()
        else:
            self._read()

    def _scan(self, data: bytes | memoryview) -> int:
        """How many bytes of ``data`` belong to the request's body; notes if it is whole."""
        assert self._request_body is not None
        taken = self._request_body.feed(data)
        if self._request_body.done:
            self.request_done = True
            self._state = _State.WAIT
        return taken

    def _body(self, data: memoryview) -> None:
        origin = self._origin
        assert origin is not None
        self._moved = True
        try:
            taken = self._scan(data)
        except HeadError as error:
            if origin.answering:
                self.abort()
            else:
                self.refuse(error.status, error.code, error.what)
            return
        if taken < len(data):
            self._buffer = bytes(data[taken:])
        self._sent_bytes += taken
        if taken < READ_SIZE:
            self._sent(origin.stream.send_buffered(taken))
        else:
            self._sent(origin.stream.send(data[:taken]))

    def origin_drained(self) -> None:
        """What was kept for the server has gone out."""
        if not self._buffer and self._state in (_State.BODY, _State.WAIT):
            self._read()

    # --- the response ---------------------------------------------------------------------------

    def answered(self, *, delimited: bool) -> bool:
        """A response begins; whether the connection stays open after it."""
        self._request = b""
        self._front.responses.pop(self, None)
        self._keep = self._keep and delimited and self.request_done and not self._front.draining
        return self._keep

    def _blocked(self) -> None:
        if self._origin is not None:
            self._origin.stream.pause()

    def _flushed(self) -> None:
        if self._origin is not None:
            self._origin.stream.resume()

    def response_done(self, origin: HttpOrigin, *, reusable: bool) -> None:
        """The response is whole: on to the next request, or to the end, once all of it is out."""
        self._log(origin, "ok")
        origin.last_used = self._front.now()
        if not (reusable and self.request_done and self._keep):
            self._drop_origin()
        self._once_flushed(self._go_on)

    def _go_on(self) -> None:
        if self._origin is not None:
            self._origin.stream.resume()
        if not self._keep or self._front.draining:
            self._linger()
            return
        self._state = _State.HEAD
        if self._buffer:
            self._pump.loop.call_soon(self._next)
        else:
            self._front.idle_started(self)
            self._read()

    def _next(self) -> None:
        if self._state is _State.HEAD and self._buffer:
            data, self._buffer = self._buffer, b""
            self._heads(data)

    def no_answer(self, origin: HttpOrigin, code: str, *, begun: bool, again: bool) -> None:
        """The server, or the way to it, ended before its answer was whole."""
        if again and self._request and not self._retried:
            self._retried = True
            self._drop_origin()
            self._dial(self._request)
        elif begun:
            self._log(origin, code)
            self._drop_origin()
            self._once_flushed(self.abort)
        else:
            self.refuse(0, code, "The server closed the connection, or sent what is no HTTP answer")

    def origin_lost(self, origin: HttpOrigin) -> None:
        """A connection that rested between requests has ended."""
        if origin is self._origin:
            self._drop_origin()

    def _drop_origin(self) -> None:
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.give_up(cleanly=self.request_done)
            self._front.quota.give_back(self._login.user or self.address[0])

    def upgrade(self, origin: HttpOrigin, head: bytes, rest: bytes) -> None:
        """The server has switched protocols: from now on bytes pass both ways as they are."""
        access = self._access
        assert access is not None
        self._origin = None  # and its quota goes with the session
        self._leave()
        answer = bytes(self._pending or b"") + head + rest
        self._front.join(self, self._sock, origin.stream, access, early=self._buffer, answer=answer)

    def refuse(self, status: int, code: str, what: str) -> None:
        """Answer with an error of ours, and close. ``status`` 0: the one that belongs to ``code``."""
        self._log(self._origin, code)
        self._drop_origin()
        self._front.forget(self)
        self._state = _State.LINGER
        self.write(refusal(status, code, what, body=not self._no_body))
        self._once_flushed(self._linger)

    def _log(self, origin: HttpOrigin | None, code: str) -> None:
        access, self._access = self._access, None
        if access is None:  # what is no request
            access = Access(self.address, "http", self._login.user)
        else:
            access.seconds = self._front.now() - self._begun
            access.sent = self._sent_bytes
            access.received = 0 if origin is None else origin.received
        self._front.log(access, code)

    # --- the end --------------------------------------------------------------------------------

    def _linger(self) -> None:
        """Close; if the client may still be sending, let it see the answer first."""
        self._state = _State.LINGER
        self._left = LINGER_BYTES
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._front.linger_started(self)
        self._read()

    def _leave(self) -> None:
        """The socket is somebody else's now, what is pending as well."""
        if self._pending is not None:
            self._pump.poller.remove_writer(self.fd)
        self._pump.unwatch(self)
        self._state = _State.CLOSED
        self._front.forget(self)

    def _detach(self) -> bool:
        """End all but the socket; False if that was done before."""
        if self._state is _State.CLOSED:
            return False
        self._release()
        self._state = _State.CLOSED
        if self._task is not None:
            self._task.cancel()
        self._front.gone(self, self.address[0])
        return True

    def _shut(self) -> None:
        self._drop_origin()
        if self._detach():
            self._sock.close()

    def abort(self) -> None:
        """End at once: the client sees that what it has is not all there is."""
        if self._access is not None:
            self._log(self._origin, "proxy_closed" if self._front.closed else "client_gone")
        self._drop_origin()
        if self._detach():
            self._pump.reset(self._sock)

    def timed_out(self) -> None:
        """A wait has ended: an idle connection goes quietly, a slow client is told."""
        if self._state is _State.HEAD and self._buffer:
            self.refuse(408, "head_timeout", "The request did not arrive in time")
        elif self._state in (_State.HEAD, _State.LINGER):
            self._shut()
        elif self._moved:
            self._moved = False  # the request was still under way
            self._front.response_awaited(self)
        elif self.request_done:
            self.refuse(0, "destination_timeout", "The server did not answer in time")
        else:
            self.refuse(408, "body_timeout", "The rest of the request did not arrive in time")

    def drain(self) -> None:
        """The proxy shuts down: an idle connection goes, a busy one after its response."""
        self._keep = False
        if self._state is _State.HEAD and not self._buffer:
            self._shut()

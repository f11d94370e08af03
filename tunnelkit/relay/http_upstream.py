"""One kept-alive connection to a service, as the HTTP ingress has it: a stream through the agent.

Reads responses and passes them to the visitor that waits; between requests it rests in its tunnel's
pool, so that a request costs no dial and no new stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnelkit.net.stream import Stream
from tunnelkit.relay.registry import RelayTunnel
from tunnelkit.wire.http_body import ChunkScanner
from tunnelkit.wire.http_head import (
    Framing,
    HeadError,
    ResponseHead,
    build_response,
    find_head_end,
    parse_response,
)

if TYPE_CHECKING:
    from tunnelkit.relay.http_visitor import HttpVisitor
    from tunnelkit.relay.ingress_http import HttpIngress

__all__ = ["Upstream"]

_HOST_REFUSED = (b"Invalid Host header", b"Blocked request", b"Blocked host", b"DisallowedHost")
"""What webpack, Vite, Rails and Django say to a Host they do not know."""

_REFUSED = {"service_timeout": 504, "no_tunnel": 404}
"""What a visitor is answered where an agent refuses a stream; 502 for what is not here."""


class Upstream:
    """A stream to the service behind ``tunnel``; a :class:`~tunnelkit.net.stream.StreamUser`."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_doubtful",
        "_framing",
        "_in_head",
        "_ingress",
        "_left",
        "_method",
        "_previous",
        "_reusable",
        "_scanner",
        "_tunnel",
        "_unchunk",
        "fresh",
        "last_used",
        "stream",
        "visitor",
    )

    def __init__(self, ingress: HttpIngress, tunnel: RelayTunnel, stream: Stream) -> None:
        self.stream = stream
        self.visitor: HttpVisitor | None = None
        self.fresh = True
        """Whether it carries its first request."""
        self.last_used = 0.0
        self._ingress = ingress
        self._tunnel = tunnel
        self._closing = False
        self._method = b""
        self._previous: ResponseHead | None = None
        self._in_head = True
        self._buffer = b""  # of a response head that is not whole yet
        self._framing = Framing.NONE
        self._left = 0
        self._scanner: ChunkScanner | None = None
        self._unchunk = False  # the visitor speaks HTTP/1.0: chunks are taken apart
        self._reusable = False
        self._doubtful = False  # whether the service knows the host: the page will tell

    def carry(self, visitor: HttpVisitor, method: bytes) -> None:
        """From now on this stream carries ``visitor``'s request; its bytes are sent by the visitor."""
        self.visitor = visitor
        self._method = method
        self._in_head = True
        self._buffer = b""

    @property
    def answering(self) -> bool:
        """Whether the visitor has the beginning of its response."""
        return not self._in_head

    # --- the response ---------------------------------------------------------------------------

    def payload(self, data: memoryview | bytes) -> None:
        visitor = self.visitor
        if visitor is None:
            if not self._closing:
                self.give_up()  # bytes that nobody asked for: a service out of step
            return
        try:
            if not self._in_head:
                self._body(visitor, data)
            elif self._buffer:
                self._heads(visitor, self._buffer + data, len(self._buffer))
            else:
                self._heads(visitor, bytes(data))
        except HeadError:
            self._broken(visitor)

    def _broken(self, visitor: HttpVisitor) -> None:
        """The service sent what is no HTTP."""
        self.visitor = None
        self.stream.cancel("service_invalid")
        if self._in_head:
            visitor.fail(502, "service_invalid")
        else:
            visitor.response_broken()

    def _heads(self, visitor: HttpVisitor, data: bytes, searched: int = 0) -> None:
        end = find_head_end(data, 0, searched)
        while end > 0:
            self._previous = head = parse_response(data[:end], method=self._method, previous=self._previous)
            if head.status >= 200 or head.status == 101:
                break
            if visitor.head.version:  # HTTP/1.0 knows no interim answers (RFC 9110 §15.2)
                visitor.write(build_response(head, keep_alive=True, visitor_version=1, chunked=False))
            data = data[end:]
            end = find_head_end(data)
        else:
            self._buffer = data
            return
        self._buffer = b""
        if head.status == 101:
            self._upgrade(visitor, head, data[end:])
        else:
            self._answer(visitor, head, data, end)

    def _answer(self, visitor: HttpVisitor, head: ResponseHead, data: bytes, end: int) -> None:
        self._in_head = False
        self._framing = framing = head.body
        self._reusable = head.keep_alive
        self._left = head.length
        self._unchunk = framing is Framing.CHUNKED and not visitor.head.version
        if framing is Framing.CHUNKED:
            self._scanner = ChunkScanner()
        delimited = framing is not Framing.UNTIL_CLOSE and not self._unchunk
        keep = visitor.answered(delimited=delimited)
        chunked = framing is Framing.CHUNKED and not self._unchunk
        out = build_response(head, keep_alive=keep, visitor_version=visitor.head.version, chunked=chunked)
        if visitor.scheme == "https" and self._ingress.secured is not None:
            out = self._ingress.secured.with_hsts(out)
        rest = len(data) - end
        if head.status in (400, 403) and not self._tunnel.host_header and not self._tunnel.hinted:
            if rest:
                self._hint(data)
            else:
                self._doubtful = framing is not Framing.NONE
        if framing is Framing.NONE or (framing is Framing.LENGTH and rest >= head.length):
            surplus = rest - head.length
            visitor.write(out + data[end : len(data) - surplus] if head.length else out)
            self._complete(visitor, surplus)
        else:
            visitor.write(out)
            if rest:
                self._body(visitor, memoryview(data)[end:])

    def _body(self, visitor: HttpVisitor, data: memoryview | bytes) -> None:
        if self._doubtful:
            self._hint(bytes(data))
        size = len(data)
        if self._framing is Framing.LENGTH:
            if size < self._left:
                self._left -= size
                visitor.write(data)
            else:
                taken = self._left
                visitor.write(data[:taken])
                self._complete(visitor, size - taken)
        elif self._framing is Framing.UNTIL_CLOSE:
            visitor.write(data)
        else:
            self._chunks(visitor, data)

    def _chunks(self, visitor: HttpVisitor, data: memoryview | bytes) -> None:
        scanner = self._scanner
        assert scanner is not None
        if self._unchunk:
            pieces, taken = scanner.feed_decoded(data)
            for piece in pieces:
                visitor.write(piece)
        else:
            taken = scanner.feed(data)
            visitor.write(data[:taken])
        if scanner.done:
            self._scanner = None
            self._complete(visitor, len(data) - taken)

    def _complete(self, visitor: HttpVisitor, surplus: int) -> None:
        """The response is whole."""
        self.visitor = None
        self.fresh = False
        if not visitor.request_done:
            self.stream.cancel("service_answered")
        elif surplus or not self._reusable or self._tunnel.closed or self._tunnel.ingress_address:
            self.give_up()
        else:
            self._ingress.rest(self, self._tunnel)
        visitor.response_done()

    def _upgrade(self, visitor: HttpVisitor, head: ResponseHead, rest: bytes) -> None:
        if not visitor.head.upgrade or not visitor.request_done:
            raise HeadError("A switch of protocols that nobody asked for", status=502)
        self.visitor = None
        out = build_response(head, keep_alive=True, visitor_version=1, chunked=False)
        visitor.upgrade(self.stream, out + rest)

    def _hint(self, data: bytes) -> None:
        """Tell the agent if the beginning of an error page says that the host is not known."""
        self._doubtful = False
        if any(words in data for words in _HOST_REFUSED):
            self._tunnel.hinted = True
            self._ingress.notice_host_refused(self._tunnel)

    # --- the stream -----------------------------------------------------------------------------

    def give_up(self) -> None:
        """Close the connection to the service; its stream frees the channel when the service agrees."""
        self._ingress.forget(self, self._tunnel)
        if not self._closing:
            self._closing = True
            self._ingress.closing(self)
            self.stream.end(delivered=False)

    def ended(self) -> None:
        """The service has closed its side."""
        visitor, self.visitor = self.visitor, None
        self._ingress.forget(self, self._tunnel)
        if self._closing:
            self.stream.delivered()
            return
        if visitor is not None and not visitor.request_done:
            self.stream.cancel("service_closed")
        else:
            self.stream.end(delivered=True)
        if visitor is not None:
            self._lost(visitor, "service_closed")

    def _lost(self, visitor: HttpVisitor, code: str) -> None:
        if self._in_head:
            again = not self._buffer and (not self.fresh or code == "unanswered")
            visitor.no_answer(code, again=again)
        elif self._framing is Framing.UNTIL_CLOSE and code == "service_closed":
            visitor.response_done()
        else:
            visitor.response_broken()

    def refused(self, code: str, what: str) -> None:
        visitor, self.visitor = self.visitor, None
        self._ingress.forget(self, self._tunnel)
        if visitor is not None:
            visitor.fail(_REFUSED.get(code, 502), code)

    def aborted(self, code: str) -> None:
        visitor, self.visitor = self.visitor, None
        self._ingress.forget(self, self._tunnel)
        if visitor is not None:
            self._lost(visitor, code)

    def drained(self) -> None:
        if self.visitor is not None:
            self.visitor.upstream_drained()

    def cancel(self, code: str) -> None:
        """Abort: the visitor has gone, or the service does not answer."""
        self.visitor = None
        self._ingress.forget(self, self._tunnel)
        self.stream.cancel(code)

"""A connection to an HTTP server, as a client of the proxy uses it for its requests, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnelkit.net.stream import Outgoing
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
    from tunnelkit.egress.front import Front
    from tunnelkit.egress.http_client import HttpClient

__all__ = ["VIA", "HttpOrigin"]

VIA = b"Via: 1.1 tunnelkit\r\n"
"""What a proxy has to add to all that it forwards (RFC 9110 §7.6.3)."""


class HttpOrigin:
    """``stream`` to the server at ``place``; a :class:`~tunnelkit.net.stream.StreamUser`.

    It belongs to one client: another one's requests never travel on the same connection.
    """

    __slots__ = (
        "_answering",
        "_buffer",
        "_client",
        "_closing",
        "_ended",
        "_framing",
        "_front",
        "_left",
        "_method",
        "_previous",
        "_reusable",
        "_scanner",
        "_unchunk",
        "busy",
        "fresh",
        "last_used",
        "place",
        "received",
        "stream",
    )

    def __init__(self, front: Front, client: HttpClient, stream: Outgoing, place: tuple[str, int]) -> None:
        self.stream = stream
        self.place = place
        self.busy = False
        """Whether a request is under way."""
        self.fresh = True
        """Whether it carries its first request."""
        self.last_used = 0.0
        self.received = 0
        """Bytes of the current response."""
        self._front = front
        self._client = client
        self._closing = False
        self._ended = False
        self._method = b""
        self._previous: ResponseHead | None = None
        self._answering = False
        self._buffer = b""  # of a response head that is not whole yet
        self._framing = Framing.NONE
        self._left = 0
        self._scanner: ChunkScanner | None = None
        self._unchunk = False  # the client speaks HTTP/1.0: chunks are taken apart
        self._reusable = False

    def carry(self, method: bytes) -> None:
        """A request begins; its bytes are sent by the client."""
        self.busy = True
        self.received = 0
        self._method = method
        self._answering = False
        self._buffer = b""

    @property
    def answering(self) -> bool:
        """Whether the client has the beginning of its response."""
        return self._answering

    # --- the response ---------------------------------------------------------------------------

    def payload(self, data: memoryview | bytes) -> None:
        if self._closing:
            return
        if not self.busy:
            self._client.origin_lost(self)  # bytes that nobody asked for: a server out of step
            return
        self.received += len(data)
        try:
            if self._answering:
                self._body(data)
            elif self._buffer:
                self._heads(self._buffer + data, len(self._buffer))
            else:
                self._heads(bytes(data))
        except HeadError:
            self._failed("destination_invalid")

    def _heads(self, data: bytes, searched: int = 0) -> None:
        client = self._client
        end = find_head_end(data, 0, searched)
        while end > 0:
            self._previous = head = parse_response(data[:end], method=self._method, previous=self._previous)
            if head.status >= 200 or head.status == 101:
                break
            if client.head.version:  # HTTP/1.0 knows no interim answers (RFC 9110 §15.2)
                client.write(_built(head, keep_alive=True, version=1, chunked=False))
            data = data[end:]
            end = find_head_end(data)
        else:
            self._buffer = data
            return
        self._buffer = b""
        if head.status == 101:
            self._upgrade(head, data[end:])
        else:
            self._answer(head, memoryview(data)[end:])

    def _answer(self, head: ResponseHead, rest: memoryview) -> None:
        client = self._client
        self._answering = True
        self._framing = framing = head.body
        self._reusable = head.keep_alive
        self._left = head.length
        self._unchunk = framing is Framing.CHUNKED and not client.head.version
        if framing is Framing.CHUNKED:
            self._scanner = ChunkScanner()
        delimited = framing is not Framing.UNTIL_CLOSE and not self._unchunk
        keep = client.answered(delimited=delimited)
        chunked = framing is Framing.CHUNKED and not self._unchunk
        out = _built(head, keep_alive=keep, version=client.head.version, chunked=chunked)
        if framing is Framing.LENGTH and len(rest) >= head.length:
            client.write(out + rest[: head.length])
            self._complete(len(rest) - head.length)
        elif framing is Framing.NONE:
            client.write(out)
            self._complete(len(rest))
        else:
            client.write(out)
            if rest:
                self._body(rest)

    def _body(self, data: memoryview | bytes) -> None:
        client = self._client
        if self._framing is Framing.UNTIL_CLOSE:
            client.write(data)
        elif self._framing is Framing.LENGTH:
            taken = min(len(data), self._left)
            self._left -= taken
            client.write(data[:taken])
            if not self._left:
                self._complete(len(data) - taken)
        else:
            scanner = self._scanner
            assert scanner is not None
            if self._unchunk:
                pieces, taken = scanner.feed_decoded(data)
                for piece in pieces:
                    client.write(piece)
            else:
                taken = scanner.feed(data)
                client.write(data[:taken])
            if scanner.done:
                self._scanner = None
                self._complete(len(data) - taken)

    def _complete(self, surplus: int) -> None:
        """The response is whole."""
        self.busy = False
        self.fresh = False
        self._client.response_done(self, reusable=self._reusable and not surplus)

    def _upgrade(self, head: ResponseHead, rest: bytes) -> None:
        client = self._client
        if not client.head.upgrade or not client.request_done:
            raise HeadError("A switch of protocols that nobody asked for", status=502)
        client.upgrade(self, _built(head, keep_alive=True, version=1, chunked=False), rest)

    # --- the stream -----------------------------------------------------------------------------

    def give_up(self, *, cleanly: bool) -> None:
        """Close the connection. ``cleanly``: all of the last request has been sent."""
        if self._closing:
            return
        self._closing = True
        if self.busy or not cleanly:
            self.stream.cancel("client_done")
        elif self._ended:
            self.stream.end(delivered=True)
        else:
            self._front.closing_started(self)
            self.stream.end(delivered=False)
            self.stream.resume()

    def timed_out(self) -> None:
        """The server did not close its side."""
        self._front.closing.pop(self, None)
        self.stream.cancel("client_done")

    def ended(self) -> None:
        """The server has closed its side."""
        self._ended = True
        if self._closing:
            self._front.closing.pop(self, None)
            self.stream.delivered()
        elif self.busy and self._answering and self._framing is Framing.UNTIL_CLOSE:
            self._reusable = False
            self._complete(0)
        elif self.busy:
            self._failed("destination_closed")
        else:
            self._client.origin_lost(self)

    def refused(self, code: str, what: str) -> None:
        self.aborted(code)

    def aborted(self, code: str) -> None:
        if self._closing:
            self._front.closing.pop(self, None)
        elif self.busy:
            self._failed("destination_closed")
        else:
            self._client.origin_lost(self)

    def _failed(self, code: str) -> None:
        """There is no answer any more, or none that is whole."""
        self.busy = False
        again = not self._answering and not self._buffer and not self.fresh and code == "destination_closed"
        self._client.no_answer(self, code, begun=self._answering, again=again)

    def drained(self) -> None:
        if self.busy:
            self._client.origin_drained()


def _built(head: ResponseHead, *, keep_alive: bool, version: int, chunked: bool) -> bytes:
    out = build_response(head, keep_alive=keep_alive, visitor_version=version, chunked=chunked)
    return out[:-2] + VIA + b"\r\n"

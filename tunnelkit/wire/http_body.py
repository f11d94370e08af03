"""Chunked bodies, followed to their end without being taken apart (RFC 9112 §7.1).

A body that is passed on in its chunks needs no more than to know where it ends; what lies in
between is forwarded as it came. It is checked all the same: a chunk that two servers could measure
differently would hide a second request inside the first.
"""

from __future__ import annotations

import re
from typing import Final

from tunnelkit.wire.http_fields import MAX_LENGTH, TOKEN, HeadError, check_trailer

__all__ = ["MAX_CHUNK_LINE", "MAX_TRAILERS", "MAX_TRAILER_BYTES", "ChunkScanner"]

MAX_CHUNK_LINE: Final = 256
"""Bytes in the line that begins a chunk. Extensions are hardly used; senders of signed chunks
stay under 100."""

MAX_TRAILERS: Final = 32
"""Trailer fields of one body. gRPC and checksums use two to five."""

MAX_TRAILER_BYTES: Final = 4096
"""Bytes in all trailer lines together: a status message or a signature fits well."""

_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
_SIZE: Final = rb"\r\n([0-9A-Fa-f]{1,16}+)"
_QUOTED: Final = rb'"(?:[^\x00-\x08\x0a-\x1f\x7f"\\]|\\[^\x00-\x08\x0a-\x1f\x7f])*+"'
_EXTENSION: Final = rb";%b(?:=(?:%b|%b))?" % (TOKEN.pattern, TOKEN.pattern, _QUOTED)
_CHUNK: Final = re.compile(rb"%b(?:%b)*+\r\n" % (_SIZE, _EXTENSION))
_TRAILER: Final = re.compile(rb"(%b)\r\n" % _TEXT)
# What has come of a line is looked at, too: nobody waits for an end that would be of no use.
_CHUNK_SO_FAR: Final = re.compile(rb"\r?|\r\n|%b(?:;%b)?\r?" % (_SIZE, _TEXT))
_TRAILER_SO_FAR: Final = re.compile(rb"%b\r?" % _TEXT)


class ChunkScanner:
    """Follows one chunked body, fed in order and in any pieces.

    :meth:`feed` says how many of the bytes fed are the body's; those after them, once :attr:`done`,
    are the next message's. After a :class:`~tunnelkit.wire.http_head.HeadError` nobody knows where
    the body ends, and the connection is of no more use.
    """

    __slots__ = ("_in_trailers", "_left", "_partial", "_trailer_bytes", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # payload bytes of this chunk still to come
        # The CRLF that ends a chunk is read with the next one's line, so the first needs one too.
        self._partial = b"\r\n"
        self._in_trailers = False
        self._trailers = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes of ``data`` belong to the body; :class:`HeadError` if it is malformed."""
        return self._scan(memoryview(data), None)

    def feed_decoded(self, data: bytes | bytearray | memoryview) -> tuple[list[memoryview], int]:
        """Like :meth:`feed`, and the payload in them as slices of ``data``, without the trailers."""
        payload: list[memoryview] = []
        return payload, self._scan(memoryview(data), payload)

    def _scan(self, data: memoryview, payload: list[memoryview] | None) -> int:
        position, end = 0, len(data)
        while position < end and not self.done:
            if self._left:
                stop = min(end, position + self._left)
                if payload is not None:
                    payload.append(data[position:stop])
                self._left -= stop - position
                position = stop
            elif self._partial or self._in_trailers or not (match := _CHUNK.match(data, position)):
                position = self._line(data, position)
            else:
                position = match.end()
                self._begin(match)
        return position

    def _begin(self, match: re.Match[bytes]) -> None:
        size = int(match[1], 16)
        if size > MAX_LENGTH or match.end() - match.start() > MAX_CHUNK_LINE:
            raise HeadError("chunk line too long" if size <= MAX_LENGTH else "chunk too large")
        self._left = size
        self._in_trailers = not size

    def _line(self, data: memoryview, position: int) -> int:
        """Take a line, or the part of one that has come, at ``position``; where it ends."""
        limit = MAX_CHUNK_LINE
        whole, so_far = _CHUNK, _CHUNK_SO_FAR
        if self._in_trailers:
            limit = MAX_TRAILER_BYTES - self._trailer_bytes + len(b"\r\n")  # and the blank line
            whole, so_far = _TRAILER, _TRAILER_SO_FAR
        held = len(self._partial)
        line = self._partial + data[position : position + limit + 1]
        match = whole.match(line)
        if not match:
            if len(line) > limit or not so_far.fullmatch(line):
                raise HeadError("malformed trailer" if self._in_trailers else "malformed chunk")
            self._partial = line
            return len(data)
        self._partial = b""
        if self._in_trailers:
            self._trailer(match)
        else:
            self._begin(match)
        return position + match.end() - held

    def _trailer(self, match: re.Match[bytes]) -> None:
        if not match[1]:
            self.done = True
            return
        check_trailer(match[1])
        self._trailers += 1
        self._trailer_bytes += match.end()
        if self._trailers > MAX_TRAILERS or self._trailer_bytes > MAX_TRAILER_BYTES:
            raise HeadError("too many trailers")

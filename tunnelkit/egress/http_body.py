"""A request's body on its way through: where it ends, and no more."""

from __future__ import annotations

from tunnelkit.wire.http_body import ChunkScanner
from tunnelkit.wire.http_head import Framing, RequestHead

__all__ = ["RequestBody"]


class RequestBody:
    """Follows the body that ``head`` announces; :attr:`done` once all of it has been seen."""

    __slots__ = ("_left", "_scanner", "done")

    def __init__(self, head: RequestHead) -> None:
        self.done = head.body is Framing.NONE
        self._left = head.length
        self._scanner = ChunkScanner() if head.body is Framing.CHUNKED else None

    def feed(self, data: bytes | memoryview) -> int:
        """How many bytes of ``data`` belong to it; :class:`HeadError` if it is malformed."""
        if self._scanner is not None:
            taken = self._scanner.feed(data)
            self.done = self._scanner.done
        else:
            taken = min(len(data), self._left)
            self._left -= taken
            self.done = not self._left
        return taken

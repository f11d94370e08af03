"""The user of a stream that has none yet: between the far end's answer and ``use`` with ``resume``."""

from __future__ import annotations

from tunnelkit.net.stream import StreamUser

__all__ = ["Held"]


class Held:
    """Keeps what comes together with the answer, which is little: the stream is paused."""

    def __init__(self) -> None:
        self._data = b""
        self._has_ended = False
        self._failure: str | None = None

    def hand_over(self, user: StreamUser) -> None:
        """Call ``user`` back with what has come, now that it wants to be."""
        if self._data:
            user.payload(self._data)
        if self._failure is not None:
            user.aborted(self._failure)
        elif self._has_ended:
            user.ended()

    def payload(self, data: memoryview | bytes) -> None:
        self._data += data

    def ended(self) -> None:
        self._has_ended = True

    def refused(self, code: str, what: str) -> None: ...

    def aborted(self, code: str) -> None:
        self._failure = code

    def drained(self) -> None: ...

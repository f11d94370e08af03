"""WebSocket framing (RFC 6455 §5) of data channels, without I/O.

:class:`FrameReader` turns received bytes into payload and messages; :func:`header` and
:func:`frame` make what is sent. Call :meth:`FrameReader.feed` with whatever arrived, in order, and
handle every event it yields before the next call: payload comes as slices of the bytes fed.

Data channels use no extension, so a reserved bit or an unknown opcode ends them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import IntEnum

from tunnelkit.errors import ProtocolError

__all__ = [
    "MAX_CONTROL",
    "MAX_FRAME",
    "MAX_HEADER",
    "MAX_TEXT",
    "FrameReader",
    "Opcode",
    "frame",
    "header",
    "mask",
]

MAX_FRAME = 1 << 20
"""Payload bytes of one binary frame: four full pipes, and what a reader may be asked to wait through."""

MAX_TEXT = 4096
"""Bytes of one text message on a data channel; the longest of ours has under 400."""

MAX_CONTROL = 125
"""Payload bytes of a ping, pong or close frame (RFC 6455 §5.5)."""

MAX_HEADER = 14
"""Bytes of the longest frame header: two, eight of length, four of mask."""

_NO_MASK = b"\0\0\0\0"

Masker = Callable[[bytes | memoryview, bytes], bytes]


class Opcode(IntEnum):
    """RFC 6455 §5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def mask(data: bytes | memoryview, key: bytes) -> bytes:
    """``data`` with ``key`` applied (RFC 6455 §5.3); applying it again takes it off."""
    n = len(data)
    pad = key * (n // 4) + key[: n % 4]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big")


def header(length: int, opcode: int = Opcode.BINARY, key: bytes | None = None) -> bytes:
    """The header of one whole frame of ``length`` payload bytes, masked with ``key`` if given."""
    bit = 0 if key is None else 0x80
    tail = key or b""
    if length < 126:
        return bytes((0x80 | opcode, bit | length)) + tail
    if length < 65536:
        return bytes((0x80 | opcode, bit | 126, length >> 8, length & 255)) + tail
    return bytes((0x80 | opcode, bit | 127)) + length.to_bytes(8, "big") + tail


def frame(
    payload: bytes | memoryview,
    opcode: int = Opcode.BINARY,
    key: bytes | None = None,
    masker: Masker = mask,
) -> bytes:
    """One whole frame."""
    if key is None or key == _NO_MASK:
        return header(len(payload), opcode, key) + bytes(payload)
    return header(len(payload), opcode, key) + masker(payload, key)


def new_key() -> bytes:
    """A mask that a page in a browser behind the same proxy cannot predict (RFC 6455 §10.3)."""
    return os.urandom(4)


class FrameReader:
    """The receiving half of a data channel.

    ``masked`` says whether the peer has to mask: a client must, a server must not (RFC 6455 §5.1).
    :attr:`left` is how many payload bytes of the current binary frame are still to come; while it is
    positive and :attr:`plain` is true, the caller may move that payload itself, past this reader,
    and count it off :attr:`left`.
    """

    __slots__ = (
        "_carry",
        "_control",
        "_fragments",
        "_key",
        "_masker",
        "_opcode",
        "_position",
        "_text",
        "left",
        "masked",
    )

    def __init__(self, *, masked: bool, masker: Masker = mask) -> None:
        self.masked = masked
        self.left = 0
        self._masker = masker
        self._carry = b""
        """Bytes of an incomplete header, or of an incomplete control or text frame."""
        self._key = _NO_MASK
        self._position = 0
        """Payload bytes of the current frame already seen, modulo four: where its mask stands."""
        self._opcode = 0
        """Opcode of the fragmented message under way; 0 between messages."""
        self._text = b""
        """What of a fragmented text message has arrived."""

    @property
    def idle(self) -> bool:
        """Whether the next byte starts a frame that is not a continuation."""
        return not (self.left or self._carry or self._opcode)

    @property
    def plain(self) -> bool:
        """Whether the rest of the current frame needs no unmasking."""
        return self._key == _NO_MASK

    def whole(self, data: memoryview, size: int) -> int:
        """Where the payload starts if ``data[:size]`` is exactly one binary message, else 0.

        The short way for the common case; with 0, :meth:`feed` does it.
        """
        if size < 3 or data[0] != 0x82 or self.left or self._carry or self._opcode:
            return 0
        length, start = data[1], 2
        if self.masked:
            length -= 128
        if length == 126 and size > 8:
            length, start = data[2] << 8 | data[3], 4
        elif not 0 <= length < 126:
            return 0
        if self.masked:
            start += 4
            if size < start or data[start - 4] | data[start - 3] | data[start - 2] | data[start - 1]:
                return 0
        return start if size == start + length else 0

    def feed(self, data: memoryview | bytes) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield ``(opcode, payload)`` for what ``data`` completes.

        ``Opcode.BINARY`` comes in pieces as they arrive, without regard to frames or messages (they
        are a stream's bytes); text messages, pings, pongs and close frames come whole. Raises
        :class:`~tunnelkit.errors.ProtocolError`, after which the reader is of no more use.
        """
        if self._carry:
            data = self._carry + bytes(data)
            self._carry = b""
        view = memoryview(data)
        position, size = 0, len(view)
        while position < size:
            if self.left:
                taken = min(self.left, size - position)
                yield Opcode.BINARY, self._unmasked(view[position : position + taken])
                self.left -= taken
                position += taken
                continue
            if (end := self._short(view, position, size)) > 0:
                start = position + (6 if self.masked else 2)
                opcode = view[position] & 15
                position = end
                yield opcode, view[start:end]
                continue
            parsed = self._header(view[position:])
            if parsed is None:
                break
            opcode, final, length, skip = parsed
            if opcode == Opcode.BINARY:
                position += skip
                self.left = length
                continue
            if position + skip + length > size:
                break  # texts and control frames are short: wait until they are whole
            position += skip
            payload = self._unmasked(view[position : position + length])
            position += length
            if opcode == Opcode.TEXT:
                payload = self._text + bytes(payload)
                if len(payload) > MAX_TEXT:
                    raise ProtocolError(f"A text message of more than {MAX_TEXT} bytes on a data channel")
                self._text = b"" if final else payload
                if not final:
                    continue
            yield opcode, payload
        if position < size:
            self._carry = bytes(view[position:])

    def _short(self, view: memoryview, position: int, size: int) -> int:
        """Where the message at ``position`` ends, if it is whole, short and unmasked; else 0."""
        start = position + (6 if self.masked else 2)
        if start > size or self._opcode or view[position] not in (0x81, 0x82):
            return 0
        length = view[position + 1] - (128 if self.masked else 0)
        end = start + length
        if not 0 < length < 126 or end > size or (self.masked and view[start - 4 : start] != _NO_MASK):
            return 0
        return end

    def _unmasked(self, payload: memoryview) -> bytes | memoryview:
        if self._key == _NO_MASK:
            return payload
        shift = self._position
        self._position = (shift + len(payload)) & 3
        return self._masker(payload, self._key[shift:] + self._key[:shift])

    def _header(self, view: memoryview) -> tuple[int, bool, int, int] | None:
        """Opcode (of the message, for a continuation), FIN, payload length, header length.

        None while the header is incomplete; nothing has changed then.
        """
        if len(view) < 2:
            return None
        first, second = view[0], view[1]
        final, opcode, length = first >= 0x80, first & 15, second & 127
        if first & 0x70:
            raise ProtocolError("A WebSocket frame with a reserved bit set")
        if (second >= 0x80) is not self.masked:
            raise ProtocolError("A WebSocket frame that is " + ("not masked" if self.masked else "masked"))
        size = 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if self.masked else 0)
        if opcode >= 8:
            if opcode > Opcode.PONG or not final or length > MAX_CONTROL:
                raise ProtocolError("A malformed WebSocket control frame")
        elif opcode > Opcode.BINARY:
            raise ProtocolError(f"A WebSocket frame with opcode {opcode}")
        elif (opcode == Opcode.CONTINUATION) is not bool(self._opcode):
            raise ProtocolError("A WebSocket fragment out of order")
        if len(view) < size:
            return None
        if length == 126:
            length = int.from_bytes(view[2:4], "big")
        elif length == 127:
            length = int.from_bytes(view[2:10], "big")
        message = opcode or self._opcode
        if length > (MAX_TEXT if message == Opcode.TEXT else MAX_FRAME):
            raise ProtocolError(f"A WebSocket frame of {length} bytes")
        self._key = bytes(view[size - 4 : size]) if self.masked else _NO_MASK
        self._position = 0
        if opcode < 8 and (message == Opcode.BINARY or len(view) >= size + length):
            self._opcode = 0 if final else message
        return message, final, length, size

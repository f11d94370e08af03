"""A socket that speaks WebSocket frames: the stream side of the byte path.

Sends payload as binary messages and receives it, with a short way for a message that arrives whole
and splice(2) for large ones. What a frame means is the business of subclasses.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import Protocol

from tunnelkit.errors import ProtocolError
from tunnelkit.net.pipes import Pipe
from tunnelkit.net.pump import HEADROOM, READ_SIZE, Pump
from tunnelkit.net.sockets import AnySocket, holds
from tunnelkit.wire.frames import MAX_FRAME, MAX_HEADER, FrameReader, Masker, Opcode, frame, header, new_key

__all__ = ["Framed", "FramedUser"]

SPLICE_MIN = 64 * 1024
"""Bytes still to come of a frame from which on a pipe is worth its two system calls."""

MAX_PENDING_CONTROL = 16 * 1024
"""Bytes of messages and pongs kept while the peer takes nothing. A peer that asks for more answers
than it reads is cut off."""

_ZERO_KEY = b"\0\0\0\0"
_MSG_MORE = getattr(socket, "MSG_MORE", 0)


class FramedUser(Protocol):
    """Who gets the payload: see :class:`tunnelkit.net.stream.StreamUser`."""

    def payload(self, data: memoryview | bytes) -> None: ...
    def drained(self) -> None: ...


class Spliced(Protocol):
    """A user whose payload can go from socket to socket: :class:`tunnelkit.net.pump.Join`."""

    def splice_in(self, source: int, count: int) -> int: ...


class Framed(ABC):
    """Frames over ``sock``; ``received`` is what came on it behind the handshake.

    ``key`` masks what is sent: None on a server, four zero bytes on a client whose way is encrypted
    or local, ``random`` otherwise (RFC 6455 §10.3).
    """

    __slots__ = (
        "_fd",
        "_greedy",
        "_head",
        "_header_size",
        "_key",
        "_large",
        "_masker",
        "_pipe",
        "_pump",
        "_random",
        "_reader",
        "_reading",
        "_sock",
        "_tail",
        "bytes_received",
        "bytes_sent",
        "closed",
        "heard",
        "spliced",
        "splices",
        "user",
    )

    user: FramedUser

    def __init__(
        self, pump: Pump, sock: AnySocket, *, client: bool, random_mask: bool, masker: Masker
    ) -> None:
        self._pump = pump
        self._sock = sock
        self._fd = sock.fileno()
        self._reader = FrameReader(masked=not client, masker=masker)
        self._masker = masker
        self._key = _ZERO_KEY if client else None
        self._random = client and random_mask
        self._greedy = bool(getattr(sock, "greedy", False))
        self._header_size = MAX_HEADER - (4 if client else 0)
        self._large = False  # the last payload was spliced
        self._reading = False
        self._head = b""  # what has to go out next
        self._pipe: Pipe | None = None  # then what is in here
        self._tail = b""  # then this
        self.bytes_sent = 0
        self.bytes_received = 0
        self.closed = False
        self.heard = True
        """Whether anything arrived since somebody last set this to False."""
        self.splices = pump.splices and not self._greedy and not self._random
        self.spliced: Spliced | None = None
        """Takes large payload by splice, if set."""

    def preface(self, data: bytes) -> None:
        """Send ``data`` as it is: the end of the handshake."""
        self._send_raw(data)

    def start(self, received: bytes = b"") -> None:
        """Begin to read; ``received`` came behind the handshake."""
        self.resume()
        if received:
            try:
                self._feed(received)
            except ProtocolError as error:
                self.lost("protocol", error)

    # --- receiving ------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading: TCP's window does the rest."""
        if self._reading:
            self._reading = False
            self._pump.poller.remove_reader(self._fd)

    def resume(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            self._pump.poller.add_reader(self._fd, self._readable)
            if self._greedy:
                self._pump.loop.call_soon(self._readable)

    @property
    def paused(self) -> bool:
        return not self._reading

    def _readable(self) -> None:
        if not self._reading:
            return  # a greedy read that was scheduled before reading stopped
        reader, pump = self._reader, self._pump
        try:
            if reader.left >= SPLICE_MIN and self._splice_in():
                return
            # Behind a large frame comes another: take its header alone, so that all of it is spliced.
            header_alone = self._large and not reader.left
            count = self._sock.recv_into(pump.area[: self._header_size] if header_alone else pump.area)
        except BlockingIOError:
            return
        except OSError:
            self.lost("reset")
            return
        if not count:
            self.lost("closed")
            return
        self.heard = True
        try:
            start = reader.whole(pump.area, count)
            if start:
                self.bytes_received += count - start
                self.user.payload(pump.area[start:count])
            else:
                self._feed(pump.area[:count])
        except ProtocolError as error:
            self.lost("protocol", error)
            return
        if header_alone:
            self._large = False  # until all of the next one has been spliced too
            if reader.left >= SPLICE_MIN:
                self._readable()
        elif self._greedy and holds(self._sock):
            pump.loop.call_soon(self._readable)

    def _splice_in(self) -> bool:
        """Move payload of a large frame by splice; False where it has to be received."""
        reader = self._reader
        if self.spliced is None or not reader.plain or not self.splices:
            return False
        moved = self.spliced.splice_in(self._fd, reader.left)
        if moved < 0:
            return False
        if moved:
            self.heard = True
            self.bytes_received += moved
            reader.left -= moved
            self._large = not reader.left
        else:
            self.lost("closed")
        return True

    def _feed(self, data: bytes | memoryview) -> None:
        for opcode, payload in self._reader.feed(data):
            if opcode == Opcode.BINARY:
                self.bytes_received += len(payload)
                self.user.payload(payload)
            elif opcode == Opcode.TEXT:
                self.text(bytes(payload))
            elif opcode == Opcode.PING:
                self._send_control(frame(payload, Opcode.PONG, self._frame_key(), self._masker))
            elif opcode == Opcode.CLOSE:
                self.lost("closed")
            if self.closed:
                return

    @abstractmethod
    def text(self, data: bytes) -> None:
        """A text message arrived."""

    @abstractmethod
    def lost(self, code: str, error: ProtocolError | None = None) -> None:
        """The connection is of no more use: broken, closed by the peer, or it spoke nonsense."""

    # --- sending --------------------------------------------------------------------------------

    def _frame_key(self) -> bytes | None:
        return new_key() if self._random else self._key

    def send_buffered(self, count: int) -> bool:
        """Send the first ``count`` bytes of the pump's area; False: wait for ``drained``."""
        pump = self._pump
        if self._head or self._random or count >= 65536:
            return self.send(pump.area[:count])
        self.bytes_sent += count
        if self._key is None:
            start = self._small_header(pump.buffer, count)
        else:
            head = header(count, Opcode.BINARY, self._key)
            start = HEADROOM - len(head)
            pump.buffer[start:HEADROOM] = head
        end = HEADROOM + count
        try:
            sent = self._sock.send(pump.memory[start:end])
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._broke()
        if sent == end - start:
            return True
        self._keep(bytes(pump.memory[start + sent : end]))
        return False

    @staticmethod
    def _small_header(buffer: bytearray, count: int) -> int:
        """Write the header of an unmasked message in front of its payload; where it starts."""
        if count < 126:
            buffer[HEADROOM - 2] = 0x82
            buffer[HEADROOM - 1] = count
            return HEADROOM - 2
        buffer[HEADROOM - 4] = 0x82
        buffer[HEADROOM - 3] = 126
        buffer[HEADROOM - 2] = count >> 8
        buffer[HEADROOM - 1] = count & 255
        return HEADROOM - 4

    def send(self, data: bytes | memoryview) -> bool:
        """Send ``data`` as payload; False: wait for ``drained``."""
        self.bytes_sent += len(data)
        if len(data) > MAX_FRAME:
            pieces = [data[i : i + MAX_FRAME] for i in range(0, len(data), MAX_FRAME)]
            return self._send_raw(b"".join(map(self._message, pieces)))
        if self._random or len(data) < READ_SIZE or self._head or self._greedy:
            return self._send_raw(self._message(data))
        head = header(len(data), Opcode.BINARY, self._key)
        try:
            sent = self._sock.sendmsg((head, data))
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._broke()
        if sent == len(head) + len(data):
            return True
        self._keep((head + bytes(data))[sent:])
        return False

    def _message(self, data: bytes | memoryview) -> bytes:
        return frame(data, Opcode.BINARY, self._frame_key(), self._masker)

    def send_spliced(self, pipe: Pipe, count: int) -> bool:
        """Send the ``count`` bytes in ``pipe``; False: the pipe is this object's now."""
        self.bytes_sent += count
        head = header(count, Opcode.BINARY, self._key)
        if self.blocked:  # by a ping, say: wait behind it
            self._head += head
            self._pipe = pipe
            return False
        try:
            sent = self._sock.send(head, _MSG_MORE)  # type: ignore[call-arg]  # never TLS here
        except BlockingIOError:
            sent = 0
        except OSError:
            self._pump.pipes.give(pipe)
            return self._broke()
        try:
            if sent == len(head) and pipe.drain(self._fd):
                return True
        except OSError:
            self._pump.pipes.give(pipe)
            return self._broke()
        self._pipe = pipe
        self._keep(head[sent:])
        return False

    def send_text(self, text: bytes, more: bytes = b"") -> None:
        """Send a text message (and the frames ``more`` behind it). Never waits; it is kept if need be."""
        self._send_control(frame(text, Opcode.TEXT, self._frame_key(), self._masker) + more)

    def send_soon(self, text: bytes) -> None:
        """As :meth:`send_text`, but what is sent next may carry it; by itself it goes within 200 ms.

        MSG_MORE of send(2): the kernel holds back a segment that is not full.
        """
        data = frame(text, Opcode.TEXT, self._frame_key(), self._masker)
        if self._greedy or self.blocked or not _MSG_MORE:
            self._send_control(data)
            return
        try:
            sent = self._sock.send(data, _MSG_MORE)  # type: ignore[call-arg]  # never TLS here
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broke()
            return
        if sent < len(data):
            self._keep(data[sent:])

    def ping(self) -> None:
        """Ask for a sign of life (RFC 6455 §5.5.2)."""
        self._send_control(frame(b"", Opcode.PING, self._frame_key(), self._masker))

    def pong(self) -> None:
        """Give a sign of life that nobody asked for (RFC 6455 §5.5.3)."""
        self._send_control(frame(b"", Opcode.PONG, self._frame_key(), self._masker))

    @property
    def blocked(self) -> bool:
        """Whether something is kept that the peer has not taken."""
        return bool(self._head) or self._pipe is not None

    def _send_control(self, data: bytes) -> None:
        self._send_raw(data)
        if (
            len(self._tail) > MAX_PENDING_CONTROL
            or len(self._head) > READ_SIZE + MAX_PENDING_CONTROL + MAX_FRAME
        ):
            self.lost("protocol", ProtocolError("A peer that sends pings and reads nothing"))

    def _send_raw(self, data: bytes) -> bool:
        if self._pipe is not None:
            self._tail += data
            return False
        if self._head:
            self._head += data
            return False
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._broke()
        if sent == len(data):
            return True
        self._keep(data[sent:])
        return False

    def _broke(self) -> bool:
        """A write failed. The loss is reported later, for the caller is in the midst of something."""
        self._pump.loop.call_soon(self._lost_later)
        return False

    def _lost_later(self) -> None:
        if not self.closed:
            self.lost("reset")

    def _keep(self, data: bytes) -> None:
        self._head = data
        self._pump.poller.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            if self._head:
                self._head = self._head[self._sock.send(self._head) :]
                if self._head:
                    return
            if self._pipe is not None:
                if not self._pipe.drain(self._fd):
                    return
                self._pump.pipes.give(self._pipe)
                self._pipe = None
            if self._tail:
                self._head, self._tail = self._tail, b""
                self._writable()
                return
        except BlockingIOError:
            return
        except OSError:
            self.lost("reset")
            return
        self._pump.poller.remove_writer(self._fd)
        self.user.drained()

    def close(self) -> None:
        """Close the connection, without ceremony: a data channel's end needs no farewell."""
        if not self.closed:
            self.pause()
            if self.blocked:
                self._pump.poller.remove_writer(self._fd)
            self.closed = True
            self._head = self._tail = b""
            if self._pipe is not None:
                self._pump.pipes.give(self._pipe)
                self._pipe = None
            self._sock.close()

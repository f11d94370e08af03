"""The system calls that Python has no function for, and their numbers. Linux on x86-64 and aarch64."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from dataclasses import dataclass
from typing import Final

__all__ = ["NUMBERS", "Numbers", "Peer", "call", "numbers", "prctl"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one architecture: its AUDIT_ARCH (linux/audit.h) and its system calls."""

    arch: int
    socket: int
    connect: int
    sendto: int
    sendmsg: int
    bind: int
    listen: int
    sendmmsg: int
    seccomp: int
    readv: int
    """process_vm_readv(2)."""
    writev: int
    x32: bool = False
    """Whether there is a second set of numbers, with bit 30 set."""


NUMBERS: Final = {
    "x86_64": Numbers(0xC000003E, 41, 42, 44, 46, 49, 50, 307, 317, 310, 311, x32=True),
    "aarch64": Numbers(0xC00000B7, 198, 203, 206, 211, 200, 201, 269, 277, 270, 271),
}
# The same everywhere: asm-generic/unistd.h.
PIDFD_OPEN, PIDFD_GETFD, IO_URING = 434, 438, (425, 426, 427)

PIDFD_THREAD = os.O_EXCL

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if _libc is not None:
    # All as wide as a register: of a narrower one, the kernel would see what was there before.
    _libc.syscall.argtypes = (ctypes.c_long,) * 7
    _libc.syscall.restype = ctypes.c_long


def numbers() -> Numbers | None:
    """Those of this machine; None where they are not known."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None
    return NUMBERS.get(platform.machine())


def call(number: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0) -> int:
    """syscall(2), with addresses as numbers. Raises OSError."""
    assert _libc is not None
    if (result := _libc.syscall(number, a, b, c, d, e, f)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


def prctl(option: int, value: int) -> None:
    """prctl(2). Raises OSError."""
    assert _libc is not None
    if _libc.prctl(option, value, 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def address_call(name: str, descriptor: int, address: bytes) -> int:
    """``connect`` or ``bind`` with an address as it is in memory: 0, or the number of the error."""
    return ctypes.get_errno() if getattr(_libc, name)(descriptor, address, len(address)) < 0 else 0


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Peer:
    """The memory and the descriptors of other processes, of which this one is an ancestor."""

    MOST = 1 << 16
    """Bytes of one piece of memory: a datagram has no more."""

    KEPT = 256
    """Threads whose pidfd is kept open."""

    def __init__(self, known: Numbers) -> None:
        self._known = known
        self._buffer = ctypes.create_string_buffer(self.MOST)
        self._view = memoryview(self._buffer).cast("B")
        self._here = _Piece(ctypes.addressof(self._buffer), 0)
        self._there = _Piece(0, 0)
        self._pieces = ctypes.addressof(self._here), ctypes.addressof(self._there)
        self._pidfds: dict[int, int] = {}
        self._flags = PIDFD_THREAD

    def read(self, thread: int, address: int, length: int) -> bytes:
        """``length`` bytes. Raises OSError."""
        if length > self.MOST:
            raise OSError(90, "Message too long")  # EMSGSIZE
        self._here.length = self._there.length = length
        self._there.base = address
        here, there = self._pieces
        if length and call(self._known.readv, thread, here, 1, there, 1, 0) != length:
            raise OSError(14, "Bad address")  # EFAULT
        return bytes(self._view[:length])

    def write(self, thread: int, address: int, data: bytes) -> None:
        """Raises OSError."""
        ctypes.memmove(self._buffer, data, len(data))
        self._here.length = self._there.length = len(data)
        self._there.base = address
        here, there = self._pieces
        call(self._known.writev, thread, here, 1, there, 1, 0)

    def descriptor(self, thread: int, number: int) -> int:
        """A duplicate of its descriptor. Raises OSError."""
        pidfd = self._pidfds.get(thread)
        if pidfd is not None:
            try:
                return call(PIDFD_GETFD, pidfd, number, 0)
            except ProcessLookupError:  # another thread of that number has ended
                os.close(self._pidfds.pop(thread))
        pidfd = self._open(thread)
        if len(self._pidfds) >= self.KEPT:
            os.close(self._pidfds.pop(next(iter(self._pidfds))))
        self._pidfds[thread] = pidfd
        return call(PIDFD_GETFD, pidfd, number, 0)

    def _open(self, thread: int) -> int:
        try:
            return call(PIDFD_OPEN, thread, self._flags)
        except OSError:
            # Before Linux 6.9 there are pidfds of whole processes only.
            with open(f"/proc/{thread}/status") as status:  # noqa: PTH123 - nothing else is needed of it
                leader = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
            return call(PIDFD_OPEN, leader, 0)

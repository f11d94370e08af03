"""The filter that asks the supervisor before a process connects, binds, listens or sends a datagram.

See seccomp_unotify(2). What needs no look at memory is decided in the kernel: which kinds of socket
there may be, and that there is no io_uring, which would do all of it past the filter.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Final

from tunnelkit.functions.pin.kernel import IO_URING, Numbers, call, prctl

__all__ = ["MSG_FASTOPEN", "Program", "install"]

MSG_FASTOPEN: Final = 0x20000000

ALLOW, ASK, KILL, REFUSE = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
LOAD, RETURN, JUMP_IF, JUMP_IF_AT_LEAST, AND = 0x20, 0x06, 0x15, 0x35, 0x54

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6];
NUMBER, ARCH = 0, 4

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
STREAM, DGRAM = 1, 2
TYPE_MASK: Final = 0xF
"""The rest are SOCK_NONBLOCK and SOCK_CLOEXEC."""

PROTOCOLS: Final = (0, 1, 6, 17, 58)
"""Any, ICMP, TCP, UDP, ICMPv6: of the kinds STREAM and DGRAM. Others have ways of their own to name
their addresses (SCTP), or to have several (MPTCP, without which programs fall back to TCP)."""

NO_NEW_PRIVS, SET_FILTER, NEW_LISTENER, WAIT_KILLABLE = 38, 1, 8, 32


def _argument(index: int) -> int:
    return 16 + 8 * index  # its low half, on little-endian machines, which both of ours are


class Program:
    """A classic BPF program (linux/filter.h): jumps are forward, to the next :meth:`label` of a name."""

    def __init__(self, known: Numbers) -> None:
        self._code: list[tuple[int, int, str, str]] = []
        self._labels: dict[str, int] = {}
        self._write(known)

    def _add(self, code: int, value: int, yes: str = "", no: str = "") -> None:
        self._code.append((code, value, yes, no))

    def _end(self, result: int) -> None:
        self._add(RETURN, result)

    def _write(self, known: Numbers) -> None:
        self._add(LOAD, ARCH)
        self._add(JUMP_IF, known.arch, no="kill")
        self._add(LOAD, NUMBER)
        if known.x32:
            self._add(JUMP_IF_AT_LEAST, 0x40000000, yes="absent")
        for number in IO_URING:
            self._add(JUMP_IF, number, yes="absent")
        for number in (known.connect, known.bind, known.listen, known.sendmsg, known.sendmmsg):
            self._add(JUMP_IF, number, yes="ask")
        self._add(JUMP_IF, known.sendto, yes="sendto")
        self._add(JUMP_IF, known.socket, yes="socket")
        self._end(ALLOW)
        self._labels["sendto"] = len(self._code)
        for half in (0, 4):  # of the address, which is NULL for a send(2)
            self._add(LOAD, _argument(4) + half)
            self._add(JUMP_IF, 0, no="ask")
        self._end(ALLOW)
        self._labels["socket"] = len(self._code)
        self._add(LOAD, _argument(0))
        for family in (UNIX, NETLINK):
            self._add(JUMP_IF, family, yes="allow")
        self._add(JUMP_IF, INET, yes="inet")
        self._add(JUMP_IF, INET6, no="family")
        self._labels["inet"] = len(self._code)
        self._add(LOAD, _argument(1))
        self._add(AND, TYPE_MASK)
        self._add(JUMP_IF, STREAM, yes="protocol")
        self._add(JUMP_IF, DGRAM, no="denied")
        self._labels["protocol"] = len(self._code)
        self._add(LOAD, _argument(2))
        for protocol in PROTOCOLS:
            self._add(JUMP_IF, protocol, yes="allow")
        self._end(REFUSE | errno.EPROTONOSUPPORT)
        for label, result in (
            ("allow", ALLOW),
            ("ask", ASK),
            ("kill", KILL),
            ("absent", REFUSE | errno.ENOSYS),
            ("family", REFUSE | errno.EAFNOSUPPORT),
            ("denied", REFUSE | errno.EPERM),
        ):
            self._labels[label] = len(self._code)
            self._end(result)

    def assembled(self) -> bytes:
        """``struct sock_filter``, one behind the other."""
        return b"".join(
            struct.pack(
                "<HBBI",
                code,
                self._labels[yes] - at - 1 if yes else 0,
                self._labels[no] - at - 1 if no else 0,
                value,
            )
            for at, (code, value, yes, no) in enumerate(self._code)
        )


def install(known: Numbers) -> int:
    """Have this process, and all that it starts, ask; returns where. Raises OSError.

    Programs that gain rights by being run, such as sudo, do not gain them any more.
    """
    code = Program(known).assembled()
    kept = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(kept))
    program = ctypes.create_string_buffer(described, len(described))
    at = ctypes.addressof(program)
    prctl(NO_NEW_PRIVS, 1)
    try:
        # A signal must not have a call that is being answered made anew.
        return call(known.seccomp, SET_FILTER, NEW_LISTENER | WAIT_KILLABLE, at)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return call(known.seccomp, SET_FILTER, NEW_LISTENER, at)  # before Linux 5.19

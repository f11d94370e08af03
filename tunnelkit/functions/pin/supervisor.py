"""The process above a pinned function: it binds, connects and sends what the function asks to.

It starts as the function's process, of which it then makes a child; its status is the function's,
and if it dies so does the function. Sockets are the function's own, duplicated: an address is read
once from its memory, and used here, so that nothing can be put in its place after it was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable
from types import FrameType

from tunnelkit.functions.pin.datagrams import Message, read_message, send
from tunnelkit.functions.pin.kernel import Numbers, Peer, address_call, numbers, prctl
from tunnelkit.functions.pin.pins import LOOPBACK, LOOPBACK6, Address, Pins
from tunnelkit.functions.pin.seccomp import MSG_FASTOPEN, install

__all__ = ["Supervisor", "run_beneath"]

# ioctls of linux/seccomp.h, and the structures that go with them.
RECEIVE, SEND, SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
SYNC_WAKE_UP = (1).to_bytes(8, "little")
NOTIFICATION = struct.Struct("<QIIiIQ6Q")
RESPONSE = struct.Struct("<QqiI")
CONTINUE = 1

MAX_ADDRESS = 128
"""Bytes of a ``struct sockaddr_storage``."""

MAX_MESSAGES = 64
"""Of one sendmmsg(2); the rest is for its next call, as the manual page says."""

MMSG = 64
"""Bytes of a ``struct mmsghdr``, of which the last eight hold the length."""

RESOLVERS = (b"/nscd/socket", b"/systemd/resolve/io.systemd.Resolve")
"""Below ``/run`` and ``/var/run``: daemons that would ask for names from an address of their own."""

DEATH_SIGNAL, DUMPABLE, CHILD_SUBREAPER = 1, 4, 36

Handler = Callable[[int, tuple[int, ...]], int | None]
"""Answers a call of a thread: the result, or None to have the kernel go on with it. Raises OSError."""


class Supervisor:
    """``listener``: the descriptor of the filter's notifications."""

    def __init__(self, listener: int, pins: Pins, known: Numbers, peer: Peer) -> None:
        self._listener = listener
        self._pins = pins
        self._peer = peer
        self._handlers: dict[int, Handler] = {
            known.connect: self._connect,
            known.bind: self._bind,
            known.listen: self._listen,
            known.sendto: self._sendto,
            known.sendmsg: self._sendmsg,
            known.sendmmsg: self._sendmmsg,
        }

    def serve(self, ended: int) -> None:
        """Answer until ``ended``, the pidfd of the function's process, says that it has."""
        with contextlib.suppress(OSError):  # before Linux 6.6
            # Who asks waits for the answer: both take turns on one processor, which wakes none up.
            fcntl.ioctl(self._listener, SET_FLAGS, SYNC_WAKE_UP)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            for descriptor, events in poll.poll():
                if descriptor == ended:
                    return
                if events & select.POLLIN:
                    self.answer()
                else:
                    poll.unregister(self._listener)  # there is nobody left who could ask

    def answer(self) -> None:
        """One call."""
        notification = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, RECEIVE, notification)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # its thread has been killed
                return
            raise
        number, thread, _, call, _, _, *arguments = NOTIFICATION.unpack(notification)
        try:
            result = self._handlers[call](thread, tuple(arguments))
            response = RESPONSE.pack(number, result or 0, 0, CONTINUE if result is None else 0)
        except OSError as error:
            response = RESPONSE.pack(number, 0, -(error.errno or errno.EPERM), 0)
        with contextlib.suppress(OSError):  # as above
            fcntl.ioctl(self._listener, SEND, response)

    def _socket(self, thread: int, number: int) -> socket.socket:
        return socket.socket(fileno=self._peer.descriptor(thread, number & 0xFFFFFFFF))

    # --- connecting and listening ---------------------------------------------------------------

    def _connect(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        data = self._address(thread, arguments)
        with self._socket(thread, arguments[0]) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                _refuse_resolvers(sock, data)
                return None
            to = Address.read(data)
            if to is not None and not (to.is_loopback or to.is_any):
                self._bind_towards(sock, to)
            elif to is None and int.from_bytes(data[:2], "little") != socket.AF_UNSPEC:
                raise _error(errno.EAFNOSUPPORT)
            return _connect(sock, data)

    def _bind_towards(self, sock: socket.socket, to: Address) -> None:
        source = self._pins.towards(to)
        if source is None:
            raise _error(errno.ENETUNREACH)
        if sock.type == socket.SOCK_STREAM:
            # Ports are chosen once it is known where to: thousands of connections share one.
            sock.setsockopt(socket.SOL_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        if address_call("bind", sock.fileno(), source.packed()) and not _is_bound(sock, source):
            raise _error(errno.EADDRNOTAVAIL)

    def _bind(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        data = self._address(thread, arguments)
        with self._socket(thread, arguments[0]) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            wanted = Address.read(data)
            if wanted is None:
                raise _error(errno.EAFNOSUPPORT if len(data) >= 16 else errno.EINVAL)
            only6 = sock.family == socket.AF_INET6 and bool(
                sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            )
            stream = sock.type == socket.SOCK_STREAM
            address = self._pins.binding(wanted, stream=stream, only6=only6)
            if address is None:
                raise _error(errno.EADDRNOTAVAIL)
            if number := address_call("bind", sock.fileno(), address.packed()):
                raise _error(number)
            return 0

    def _listen(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        with self._socket(thread, arguments[0]) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            if sock.getsockname()[1] == 0:  # the kernel would have it listen everywhere
                host = LOOPBACK if sock.family == socket.AF_INET else LOOPBACK6
                address_call("bind", sock.fileno(), Address(sock.family, host, 0).packed())
            sock.listen(max(0, min(arguments[1] & 0xFFFFFFFF, 0x7FFFFFFF)))
            return 0

    def _address(self, thread: int, arguments: tuple[int, ...]) -> bytes:
        length = arguments[2] & 0xFFFFFFFF
        if not 2 <= length <= MAX_ADDRESS:
            raise _error(errno.EINVAL)
        return self._peer.read(thread, arguments[1], length)

    # --- datagrams --------------------------------------------------------------------------------

    def _sendto(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        number, data, length, flags, name, name_length = arguments
        with self._socket(thread, number) as sock:
            if _is_no_datagram(sock, flags):
                return None
            address = self._peer.read(thread, name, min(name_length & 0xFFFFFFFF, MAX_ADDRESS))
            return self._send(sock, Message(address, self._peer.read(thread, data, length), []), flags)

    def _sendmsg(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        number, header, flags, *_ = arguments
        with self._socket(thread, number) as sock:
            if _is_no_datagram(sock, flags):
                return None
            return self._send(sock, read_message(self._peer, thread, header), flags)

    def _sendmmsg(self, thread: int, arguments: tuple[int, ...]) -> int | None:
        number, headers, count, flags, *_ = arguments
        sent = 0
        with self._socket(thread, number) as sock:
            if _is_no_datagram(sock, flags):
                return None
            for at in range(headers, headers + min(count & 0xFFFFFFFF, MAX_MESSAGES) * MMSG, MMSG):
                try:
                    length = self._send(sock, read_message(self._peer, thread, at), flags)
                except OSError:
                    if sent:
                        break
                    raise
                self._peer.write(thread, at + MMSG - 8, length.to_bytes(4, "little"))
                sent += 1
        return sent

    def _send(self, sock: socket.socket, message: Message, flags: int) -> int:
        to = Address.read(message.address) if message.address else None
        if message.address and to is None:
            raise _error(errno.EINVAL)
        if to is not None and not (to.is_loopback or to.is_any) and self._pins.towards(to) is None:
            raise _error(errno.ENETUNREACH)
        if to is not None and not (to.is_loopback or to.is_any) and not sock.getsockname()[1]:
            self._bind_towards(sock, to)
        return send(sock, message, to, self._pins, flags & 0xFFFFFFFF)


def _connect(sock: socket.socket, data: bytes) -> int | None:
    """Connect as the owner of the socket would, but for the waiting, which is left to the owner."""
    descriptor = sock.fileno()
    if sock.type != socket.SOCK_STREAM:
        number, blocking = address_call("connect", descriptor, data), False
    else:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        blocking = not flags & os.O_NONBLOCK
        if blocking:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        number = address_call("connect", descriptor, data)
        if blocking:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    if blocking and number in (errno.EINPROGRESS, errno.EALREADY):
        return None  # a second connect(2) waits for the first, wherever it says to go
    if number:
        raise _error(number)
    return 0


def _is_bound(sock: socket.socket, source: Address) -> bool:
    host = Address(source.family, source.host, 0).text()[0]
    return bool(sock.getsockname()[0] == host)


def _is_no_datagram(sock: socket.socket, flags: int) -> bool:
    """Whether the kernel may go on: the bytes go where a connection goes, which was made here."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    if sock.type == socket.SOCK_STREAM and flags & MSG_FASTOPEN:
        raise _error(errno.EOPNOTSUPP)  # programs connect first, then
    return sock.type == socket.SOCK_STREAM


def _refuse_resolvers(sock: socket.socket, data: bytes) -> None:
    if sock.family == socket.AF_UNIX and data[2:].rstrip(b"\0").endswith(RESOLVERS):
        raise _error(errno.ECONNREFUSED)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# --- the process --------------------------------------------------------------------------------------


def run_beneath(pins: Pins, inherited: int, function: Callable[[], None]) -> None:
    """Run ``function`` in a child of this process, pinned; end as it ends.

    ``inherited``: a descriptor that is the child's alone. In the child, OSError says why there is no
    pin. Needs a process with one thread.
    """
    if (known := numbers()) is None:
        raise OSError(errno.ENOSYS, "There is no seccomp filter for this architecture")
    prctl(CHILD_SUBREAPER, 1)  # what the function leaves behind stays below, and can be looked into
    ours, theirs = socket.socketpair()
    above = os.getpid()
    if not (child := os.fork()):
        ours.close()
        prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != above:
            os._exit(1)
        listener = install(known)
        theirs.send(listener.to_bytes(4))  # not as a descriptor: sendmsg(2) would ask the supervisor
        theirs.recv(1)  # until it has it
        os.close(listener)
        theirs.close()
        function()
        return
    os.close(inherited)
    theirs.close()
    _supervise(ours, child, pins, known)


def _supervise(ours: socket.socket, child: int, pins: Pins, known: Numbers) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(DUMPABLE, 0)  # the function's processes have the same user, and no business in this one
    _let_go_of_output()
    ended = os.pidfd_open(child)
    peer = Peer(known)
    with ours:
        number = ours.recv(4)
        listener = peer.descriptor(child, int.from_bytes(number)) if number else -1
    signal.signal(signal.SIGCHLD, _reap_orphans_of(child))
    if listener >= 0:
        Supervisor(listener, pins, known, peer).serve(ended)
    _end_like(os.waitpid(child, 0)[1])


def _reap_orphans_of(child: int) -> Callable[[int, FrameType | None], None]:
    """What the function has left behind ends as a child of this process; ``child`` is waited for itself."""

    def reap(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid == child:
                    return
                os.waitpid(ended.si_pid, 0)

    return reap


def _let_go_of_output() -> None:
    """The pipes end with the function."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _end_like(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)

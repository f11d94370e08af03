"""A TCP service that sends back what it receives: ``python -m benchmarks.programs.echo PORT``.

Prints ``listening``, then serves until it is ended. A message that begins with ``LAST`` is sent
back and followed by the end of the connection, so the load decides which side closes first.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys

from benchmarks.model import LOOPBACK

LAST = b"\xff"
CHUNK = 65_536  # bytes at a time: every message of the loads is smaller
BACKLOG = 4096  # connections that may wait: no load opens more than this at once


def main(port: int) -> None:
    listener = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    print("listening", flush=True)
    while True:
        for descriptor, _ in epoll.poll():
            if connection := connections.get(descriptor):
                if _is_done(connection):
                    del connections[descriptor]
                    connection.close()
                continue
            for connection in _accept(listener):
                # The first message is often there already.
                if _is_done(connection):
                    connection.close()
                else:
                    connections[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)


def _accept(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.append(connection)
    return accepted


def _is_done(connection: socket.socket) -> bool:
    """Send back what is there; whether the connection is to be closed."""
    try:
        data = connection.recv(CHUNK)
        return not data or connection.send(data) != len(data) or data.startswith(LAST)
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""A TCP service for bulk: ``python -m benchmarks.programs.sink PORT``.

The first byte says which way: up, it counts what comes and answers with the number after the byte 255; down,
it sends until the connection is closed. One connection at a time. Prints ``listening``.
"""

from __future__ import annotations

import socket
import sys

from benchmarks.model import LOOPBACK

UP, DOWN = b"u", b"d"
LAST = b"\xff"
CHUNK = 1 << 20


def main(port: int) -> None:
    with socket.create_server((LOOPBACK, port)) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            try:
                serve(connection)
            except OSError:
                pass  # the load has had enough
            connection.close()


def serve(connection: socket.socket) -> None:
    if connection.recv(1) == DOWN:
        data = bytes(CHUNK)
        while True:
            connection.sendall(data)
    buffer = bytearray(CHUNK)
    count = 0
    while received := connection.recv_into(buffer):
        count += received
        if buffer[received - 1] == LAST[0]:
            break
    connection.sendall(b"%d\n" % count)


if __name__ == "__main__":
    main(int(sys.argv[1]))

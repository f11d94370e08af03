"""Idle streams: ``python -m benchmarks.programs.streams HOST PORT COUNT``.

Opens one and prints ``first``; on a line of standard input opens COUNT others and prints ``open``;
holds them until the next line, or the end, of standard input. Each has had one round trip, so it is
open to its far end.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

MESSAGE = bytes(range(64))
TIMEOUT = 10.0  # seconds for one stream to open
AT_ONCE = 32  # as visitors do; one by one, those behind an ssh would wait on its delays in turn


def open_streams(address: tuple[str, int], count: int) -> Iterator[socket.socket]:
    for first in range(0, count, AT_ONCE):
        batch = [
            socket.create_connection(address, TIMEOUT) for _ in range(first, min(first + AT_ONCE, count))
        ]
        for stream in batch:
            stream.sendall(MESSAGE)
        for stream in batch:
            with stream.makefile("rb") as answer:
                if answer.read(len(MESSAGE)) != MESSAGE:
                    raise ConnectionError("the answer is not what was sent")
        yield from batch


def main(host: str, port: str, count: str) -> None:
    address = (host, int(port))
    streams = [*open_streams(address, 1)]
    print("first", flush=True)
    sys.stdin.readline()
    streams += open_streams(address, int(count))
    print("open", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Connections through a proxy: ``python -m benchmarks.programs.proxied PROXY TARGET --protocol socks5 …``.

``--new SECONDS``: new ones, 32 at a time: connect, ask the proxy, send 64 bytes, receive them, close.
``--hold COUNT``: that many which stay, each after one round trip; prints ``first``, then ``open``, and
waits for a line of standard input in between and at the end. ``--bulk up|down``: one stream for 3 s.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import socket
import sys
import time
from typing import Any

from benchmarks.programs.connections import IP_BIND_ADDRESS_NO_PORT, MESSAGE, NON_BLOCKING, SOURCES, WARM_UP
from benchmarks.programs.sink import DOWN, LAST, UP

AT_ONCE = 32
CHUNK = 1 << 20
TIMEOUT = 10.0
BULK_SECONDS = 3.0


def steps(protocol: str, host: str, port: int) -> list[tuple[bytes, int]]:
    """What is sent, and how many bytes of an answer are waited for; 0: as many as a head has."""
    if protocol == "connect":
        return [(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode(), 0)]
    request = b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big")
    return [(b"\x05\x01\x00", 2), (request, 10)]


def answered(received: bytes, wanted: int) -> bool:
    """Whether the answer is whole; ``ConnectionError`` where it is no grant."""
    if wanted:
        if len(received) >= 2 and received[:2] != b"\x05\x00":
            raise ConnectionError(f"the proxy answered {received!r}")
        return len(received) >= wanted
    if received and not received.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")[: len(received)]):
        raise ConnectionError(f"the proxy answered {received[:80]!r}")
    return received.endswith(b"\r\n\r\n")


def connected(proxy: tuple[str, int], asked: list[tuple[bytes, int]]) -> socket.socket:
    """A connection through the proxy, one answer at a time."""
    connection = socket.create_connection(proxy, TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for data, wanted in asked:
        connection.sendall(data)
        received = b""
        while not answered(received, wanted):
            if not (more := connection.recv(4096)):
                raise ConnectionError("the proxy closed the connection")
            received += more
    return connection


class Load:
    """As many connections at any time as asked for; each one that ends is followed by another."""

    def __init__(self, proxy: tuple[str, int], asked: list[tuple[bytes, int]]) -> None:
        self._proxy = proxy
        self._steps = [*asked, (MESSAGE, len(MESSAGE))]
        self._sources = itertools.cycle(SOURCES)
        self._epoll = select.epoll()
        self._open: dict[int, list[Any]] = {}  # connection, step, received
        self.done = 0
        self.errors = 0

    def run(self, seconds: float) -> float:
        """Returns the seconds it took."""
        started = now = time.perf_counter()
        while now < started + seconds:
            for _ in range(AT_ONCE - len(self._open)):
                self._begin()
            for descriptor, _ in self._epoll.poll(started + seconds - now):
                self._go_on(descriptor)
            now = time.perf_counter()
        return now - started

    def _begin(self) -> None:
        connection = socket.socket(socket.AF_INET, NON_BLOCKING)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind(next(self._sources))
        connection.connect_ex(self._proxy)
        try:
            connection.send(self._steps[0][0])  # on loopback the handshake is done by now
        except OSError:
            connection.close()
            self.errors += 1
            return
        self._epoll.register(connection, select.EPOLLIN)
        self._open[connection.fileno()] = [connection, 0, b""]

    def _go_on(self, descriptor: int) -> None:
        state = self._open[descriptor]
        connection, step, received = state
        try:
            data = connection.recv(4096)
            if not data:
                raise ConnectionError("closed")
            received += data
            last = step == len(self._steps) - 1
            if last and len(received) < len(MESSAGE):
                state[2] = received
                return
            if not last:
                if not answered(received, self._steps[step][1]):
                    state[2] = received
                    return
                state[1:] = [step + 1, b""]
                connection.send(self._steps[step + 1][0])
                return
            if received != MESSAGE:
                raise ConnectionError("the answer is not what was sent")
            self.done += 1
        except BlockingIOError:
            return
        except OSError:
            self.errors += 1
        del self._open[descriptor]
        connection.close()


def hold(proxy: tuple[str, int], asked: list[tuple[bytes, int]], count: int) -> None:
    def one() -> socket.socket:
        connection = connected(proxy, asked)
        connection.sendall(MESSAGE)
        received = b""
        while len(received) < len(MESSAGE):
            received += connection.recv(4096)
        return connection

    held = [one()]
    print("first", flush=True)
    sys.stdin.readline()
    held += [one() for _ in range(count)]
    print("open", flush=True)
    sys.stdin.readline()


def bulk(proxy: tuple[str, int], asked: list[tuple[bytes, int]], direction: str) -> float:
    """Bytes a second, as the receiving side has counted them."""
    connection = connected(proxy, asked)
    connection.settimeout(None)
    moved = 0
    started = time.perf_counter()
    if direction == "up":
        connection.sendall(UP)
        data = bytes(CHUNK)
        while time.perf_counter() < started + BULK_SECONDS:
            connection.sendall(data)
        connection.sendall(LAST)  # many proxies lose the answer to a half-close
        with connection.makefile("rb") as answer:
            moved = int(answer.readline())
    else:
        connection.sendall(DOWN)
        buffer = bytearray(CHUNK)
        while time.perf_counter() < started + BULK_SECONDS:
            if not (count := connection.recv_into(buffer)):
                raise ConnectionError("the stream ended")
            moved += count
    return moved / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("proxy", "target"):
        parser.add_argument(name, type=lambda text: (text.split(":")[0], int(text.split(":")[1])))
    parser.add_argument("--protocol", choices=("socks5", "connect"), required=True)
    parser.add_argument("--new", type=float)
    parser.add_argument("--hold", type=int)
    parser.add_argument("--bulk", choices=("up", "down"))
    options = parser.parse_args()
    asked = steps(options.protocol, *options.target)
    if options.hold:
        hold(options.proxy, asked, options.hold)
        return
    if options.bulk:
        print(json.dumps({"gb_s": bulk(options.proxy, asked, options.bulk) / 1e9}))
        return
    load = Load(options.proxy, asked)
    load.run(WARM_UP)
    load.done = load.errors = 0
    seconds = load.run(options.new)
    if not load.done:
        raise SystemExit(f"no connection was served, {load.errors} failed")
    print(json.dumps({"connections_s": load.done / seconds, "errors": load.errors}))


if __name__ == "__main__":
    main()

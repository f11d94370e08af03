"""New TCP connections: ``python -m benchmarks.programs.connections HOST PORT --at-once N``.

Each one connects, sends 64 bytes, receives them back and closes, or with ``--service-closes``
receives the end too and then closes; another follows at once. Non-blocking sockets on one epoll
loop; the tables show how much of a core it takes, and the direct row how far it reaches.

Visitors have many addresses. With one, and their side closing first, direct connections would be
bounded by its ephemeral ports (28,232, each free again one to two seconds later) to 14,000/s.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import socket
import time
from array import array

from benchmarks.programs.echo import LAST
from benchmarks.spread import percentile

MESSAGE = bytes(range(64))
LAST_MESSAGE = LAST + MESSAGE[1:]
NON_BLOCKING = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: connect chooses the port, which it then may share
SOURCES = [(f"127.0.1.{last}", 0) for last in range(1, 255)]
WARM_UP = 0.5  # seconds that do not count


class Load:
    """As many connections at any time as asked for; each one that ends is followed by another."""

    def __init__(self, address: tuple[str, int], service_closes: bool) -> None:
        self._address = address
        self._service_closes = service_closes
        self._message = LAST_MESSAGE if service_closes else MESSAGE
        self._sources = itertools.cycle(SOURCES)
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self._received: dict[int, bytes] = {}
        self.took = array("d")  # seconds from the call of connect to the end
        self.errors = 0
        self.total = 0

    def run(self, at_once: int, seconds: float) -> float:
        """Returns the seconds it took."""
        started = now = time.perf_counter()
        while now < started + seconds:
            for _ in range(at_once - len(self._open)):
                self._begin()
            for descriptor, event in self._epoll.poll(started + seconds - now):
                self._go_on(descriptor, event)
            now = time.perf_counter()
        return now - started

    def _begin(self) -> None:
        connection = socket.socket(socket.AF_INET, NON_BLOCKING)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind(next(self._sources))
        begun = time.perf_counter()
        connection.connect_ex(self._address)
        try:
            connection.send(self._message)  # on loopback the handshake is done by now
            awaited = select.EPOLLIN
        except BlockingIOError:
            awaited = select.EPOLLOUT  # unless the backlog is full
        except OSError:
            connection.close()
            self.errors += 1
            return
        self._epoll.register(connection, awaited)
        self._open[connection.fileno()] = connection, begun

    def _go_on(self, descriptor: int, event: int) -> None:
        connection, begun = self._open[descriptor]
        try:
            if event & select.EPOLLOUT:
                connection.send(self._message)
                self._epoll.modify(descriptor, select.EPOLLIN)
                return
            if not self._is_answered(connection, descriptor):
                return
            self.took.append(time.perf_counter() - begun)
            self.total += 1
        except BlockingIOError:
            return
        except OSError:
            self.errors += 1
        del self._open[descriptor]
        self._received.pop(descriptor, None)
        connection.close()

    def _is_answered(self, connection: socket.socket, descriptor: int) -> bool:
        """Receive; ``OSError`` where it is not what was sent, or not all of it."""
        while data := connection.recv(4096):
            data = self._received.get(descriptor, b"") + data
            if not self._service_closes and data == self._message:
                return True
            self._received[descriptor] = data
        if not self._service_closes or self._received.get(descriptor) != self._message:
            raise ConnectionError("the answer is not what was sent")
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--at-once", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--service-closes", action="store_true")
    options = parser.parse_args()
    load = Load((options.host, options.port), options.service_closes)
    load.run(options.at_once, WARM_UP)
    load.took = array("d")
    seconds = load.run(options.at_once, options.seconds)
    if not load.took:
        raise SystemExit(f"no connection was served, {load.errors} failed")
    took = sorted(load.took)
    result = {
        "connections_s": len(took) / seconds,
        "p50_us": percentile(took, 50) * 1e6,
        "p99_us": percentile(took, 99) * 1e6,
        "errors": load.errors,
        "total": load.total,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

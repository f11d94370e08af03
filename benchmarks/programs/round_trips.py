"""Round trips on one open connection: ``python -m benchmarks.programs.round_trips HOST PORT``.

Sends 64 bytes, waits until they are back, and so on.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from array import array

from benchmarks.spread import percentile

MESSAGE = bytes(range(64))
WARM_UP = 0.5  # seconds that do not count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    with socket.create_connection((options.host, options.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(True)
        warm_up = _measure(connection, WARM_UP)
        took = _measure(connection, options.seconds)
    ordered = sorted(took)
    result = {
        "p50_us": percentile(ordered, 50) * 1e6,
        "p99_us": percentile(ordered, 99) * 1e6,
        "total": len(warm_up) + len(took),
    }
    print(json.dumps(result))


def _measure(connection: socket.socket, seconds: float) -> array[float]:
    """The seconds each round trip took, for that long."""
    took = array("d")
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        begun = now
        connection.send(MESSAGE)
        received = connection.recv(len(MESSAGE))
        while len(received) < len(MESSAGE):
            if not (more := connection.recv(len(MESSAGE) - len(received))):
                raise ConnectionError("the stream ended")
            received += more
        now = time.perf_counter()
        if received != MESSAGE:
            raise ConnectionError("the answer is not what was sent")
        took.append(now - begun)
    return took


if __name__ == "__main__":
    main()

"""Reading, writing and listing secrets: ``python -m benchmarks.programs.store DIRECTORY``.

Fills a store of its own, and times one operation after another, each as a program would call it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from benchmarks.spread import percentile
from tunnelkit.config.home import open_store
from tunnelkit.config.names import check_values
from tunnelkit.config.store import Kind, Ref, Write

VALUES = check_values({"DATABASE_URL": "postgresql://user:password@host:5432/db", "API_KEY": "k" * 40})
WARM_UP = 3  # calls that do not count
LISTS = 10  # a store, and no more than that in a measurement of any length


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--secrets", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    count, seconds = options.secrets, options.seconds
    refs = [Ref(Kind.SECRET, f"secret-{number}", "main") for number in range(count)]

    store = open_store(options.directory, environ={})
    for ref in refs:
        store.write(ref, VALUES)
    store.close()

    def first() -> None:
        fresh = open_store(options.directory, environ={})
        assert fresh.read(refs[0]) == VALUES
        fresh.close()

    anywhere = itertools.cycle(refs[:: max(1, count // 1009)])
    result = {
        "open, read and close": _times(first, seconds / 4, LISTS * 10),
        "read": _times(lambda: store.read(next(anywhere)), seconds),
        "write": _times(lambda: store.write(next(anywhere), VALUES, mode=Write.REPLACE), seconds),
        "list": _times(lambda: store.entries(Kind.SECRET, "main"), seconds, LISTS),
    }
    assert len(store.entries(Kind.SECRET, "main")) == count
    store.close()
    print(json.dumps(result))


def _times(call: Callable[[], object], seconds: float, most: int = 1 << 20) -> dict[str, float]:
    """Milliseconds a call, for that long or that many calls."""
    for _ in range(WARM_UP):
        call()
    took = array("d")
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end and len(took) < most:
        call()
        took.append(time.perf_counter() - begun)
    ordered = sorted(took)
    return {"p50_ms": percentile(ordered, 50) * 1e3, "p99_ms": percentile(ordered, 99) * 1e3}


if __name__ == "__main__":
    main()

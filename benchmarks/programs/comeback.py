"""Waits for a tunnel: ``python -m benchmarks.programs.comeback HOST PORT SECONDS``.

Visitors come every few milliseconds, whatever became of those before them; each sends 64 bytes and
waits for them to come back. Prints the seconds until the first one had them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

MESSAGE = bytes(range(64))
EVERY = 0.02  # seconds between visitors, which is as exact as the result is
PATIENCE = 2.0  # seconds that a visitor waits


async def visit(host: str, port: int) -> bool:
    """Whether the bytes came back."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(MESSAGE)
                return await reader.readexactly(len(MESSAGE)) == MESSAGE
            finally:
                writer.transport.abort()
    return False


async def main(host: str, port: int, seconds: float) -> None:
    started = time.perf_counter()
    visitors: set[asyncio.Task[bool]] = set()
    while time.perf_counter() < started + seconds:
        visitors.add(asyncio.create_task(visit(host, port)))
        done, visitors = await asyncio.wait(visitors, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result() for task in done):
            print(json.dumps({"seconds": time.perf_counter() - started}))
            return
        await asyncio.sleep(EVERY if done else 0)
    raise SystemExit(f"no visitor was served in {seconds:g} s")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))

"""A relay, an agent or a service as a process of its own: ``part.py ROLE LOOP JSON``.

Writes ``ready ADDRESS`` once it is, and then, as an agent, each of its events. Ends when it is killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tunnelkit.agent import Agent, Event
from tunnelkit.relay import Limits, Relay, RelaySsh


def say(*words: object) -> None:
    print(*words, flush=True)


async def relay(
    *,
    listen: str = "127.0.0.1:0",
    limits: dict[str, Any] | None = None,
    descriptors: int = 0,
    ssh: dict[str, Any] | None = None,
) -> None:
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    speaks = None if ssh is None else RelaySsh(**ssh)
    async with Relay(listen=listen, limits=Limits(**(limits or {})), ssh=speaks) as running:
        say("ready", running.url)
        await asyncio.Event().wait()


async def agent(*, url: str, target: str, kind: str = "tcp", wishes: dict[str, Any], **options: Any) -> None:
    def heard(event: Event) -> None:
        say(event.kind, event.code, event.what)

    async with Agent(url, on_event=heard, **options) as running:
        tunnel = await running.open(kind, target, **wishes)
        say("ready", tunnel.url)
        await running.wait()


async def service(*, port: int = 0, does: str = "echo") -> None:
    """``echo``; ``sink`` reads and says nothing; ``source`` sends without end; ``hold`` does neither."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        say("accepted")
        try:
            while does == "source":
                writer.write(os.urandom(1 << 16))
                await writer.drain()
            while does != "hold" and (data := await reader.read(1 << 16)):
                if does == "echo":
                    writer.write(data)
                    await writer.drain()
            if does == "hold":
                reader._transport.pause_reading()
                await asyncio.Event().wait()
            writer.close()
        except ConnectionError:
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    say("ready", server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    role, loop, options = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run({"relay": relay, "agent": agent, "service": service}[role](**json.loads(options)))


if __name__ == "__main__":
    main()

"""Many agents: ``python -m benchmarks.programs.agents RELAY TOKEN_FILE SERVICE AGENTS TUNNELS``.

Real agents of tunnelkit, each with an identity, a control connection and a data channel of its own, in
one process: what is measured is what they cost the relay. Prints ``up`` once every tunnel is; then holds
them until the end of standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from pathlib import Path

import tunnelkit

CONNECTING = 32  # agents that connect at the same time
OPENING = 500  # tunnels that are asked for at once: the relay may wait for a name server for each
PATIENCE = 120.0  # seconds for a tunnel: many are asked for at once


async def main(relay: str, token: str, service: str, agents: int, tunnels: int) -> None:
    prefix = f"n{secrets.token_hex(4)}"  # others may join the same relay
    connecting, opening = asyncio.Semaphore(CONNECTING), asyncio.Semaphore(OPENING)
    async with contextlib.AsyncExitStack() as stack:

        async def open_tunnel(agent: tunnelkit.Agent, name: str) -> None:
            async with opening:
                await agent.open("http", service, name=name, timeout=PATIENCE)

        async def join(number: int) -> None:
            agent = tunnelkit.Agent(relay, token=token, identity=f"{prefix}-{number}")
            async with connecting:
                await stack.enter_async_context(agent)
            names = (f"{prefix}-{number}-{tunnel}" for tunnel in range(tunnels))
            await asyncio.gather(*(open_tunnel(agent, name) for name in names))

        await asyncio.gather(*map(join, range(agents)))
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    url, token_file, address, count, each = sys.argv[1:]
    asyncio.run(main(url, Path(token_file).read_text().strip(), address, int(count), int(each)))

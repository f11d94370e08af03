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

AT_ONCE = 32  # agents that connect at the same time, as after a relay's restart with some patience
PATIENCE = 120.0  # seconds for a tunnel: many are asked for at once


async def main(relay: str, token: str, service: str, agents: int, tunnels: int) -> None:
    prefix = f"n{secrets.token_hex(4)}"  # others may join the same relay
    turns = asyncio.Semaphore(AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def join(number: int) -> None:
            agent = tunnelkit.Agent(relay, token=token, identity=f"{prefix}-{number}")
            async with turns:
                await stack.enter_async_context(agent)
                for tunnel in range(tunnels):
                    name = f"{prefix}-{number}-{tunnel}"
                    await agent.open("http", service, name=name, timeout=PATIENCE)

        await asyncio.gather(*map(join, range(agents)))
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    url, token_file, address, count, each = sys.argv[1:]
    asyncio.run(main(url, Path(token_file).read_text().strip(), address, int(count), int(each)))

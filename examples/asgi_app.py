"""An ASGI application and its tunnel in one event loop, with a stream that arrives as it is made.

pip install uvicorn
python examples/asgi_app.py            # stays up until Ctrl-C
python examples/asgi_app.py --once     # reads its own stream through the tunnel and ends
"""

import asyncio
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

import tunnelkit


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Server-sent events: one a tenth of a second."""
    assert scope["type"] == "http"
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    for number in range(5):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"data: done\n\n"})


def read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with await tunnelkit.Tunnel.create.aio(port=port) as tunnel:
        print(f"Events at {tunnel.url}", flush=True)
        if "--once" in sys.argv:
            print(await asyncio.to_thread(read, tunnel.url), end="")
        else:
            await serving
    server.should_exit = True
    await serving


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass

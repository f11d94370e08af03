"""What a person is told beside the address."""

from __future__ import annotations

import asyncio

from tunnelkit.agent import Agent, Event
from tunnelkit.relay import Relay


class Heard:
    def __init__(self) -> None:
        self.codes: list[str] = []
        self.changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if event.kind == "notice":
            self.codes.append(event.code)
            self.changed.set()

    async def until(self, code: str) -> None:
        async with asyncio.timeout(5):
            while code not in self.codes:
                self.changed.clear()
                await self.changed.wait()


async def test_who_takes_a_running_tunnel_over_is_told() -> None:
    heard = Heard()
    async with Relay(listen="127.0.0.1:0", domain="tunnels.test", tokens=["t"]) as relay:
        async with Agent(relay.url, token="t", identity="me") as first:
            await first.open("http", "127.0.0.1:9", name="app")
            async with Agent(relay.url, token="t", identity="me", on_event=heard) as second:
                await second.open("http", "127.0.0.1:9", name="app")
                await heard.until("took_over")


async def test_a_name_that_is_not_part_of_the_address_is_said_to_be_none() -> None:
    heard = Heard()
    async with Relay(listen="127.0.0.1:0", tokens=["t"]) as relay:
        async with Agent(relay.url, token="t", on_event=heard) as agent:
            await agent.open("http", "127.0.0.1:9", name="app")
            await heard.until("name_unused")

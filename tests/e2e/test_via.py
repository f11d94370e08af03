"""Leaving by a relay when things go wrong: half-open connections, restarts, cancellation; and over TLS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.http_support import Service, Wire
from tests.e2e.tcp_support import (
    QUICK,
    Forwarder,
    cancelled_at_each_step,
    echo,
    hold,
    no_failures,
    until,
)
from tests.e2e.test_agent import Front
from tests.support.addresses import free_port
from tests.support.certificates import certificate
from tests.support.chain import read_all, send_and_end
from tests.support.exits import Dialer, joined
from tests.support.scripted import PATIENCE
from tunnelkit import errors
from tunnelkit.agent import Agent, RelayEgress
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import Target
from tunnelkit.relay import Limits, Relay

TOKEN = "hush"


@asynccontextmanager
async def relay_with_exit(
    limits: Limits | None = None, port: int = 0, dialer: Dialer | None = None
) -> AsyncIterator[Relay]:
    """A relay that lends its address, and an agent that is the exit ``office``."""
    made = dialer or Dialer()
    async with (
        no_failures(),
        Relay(listen=f"127.0.0.1:{port}", tokens=[TOKEN], limits=limits, exit_dialer=lambda: made) as relay,
        Agent(relay.url, token=TOKEN, identity="exit") as agent,
    ):
        await agent.offer(made, name="office")
        yield relay


@asynccontextmanager
async def leaving(url: str, exit_name: str = "", **options: str) -> AsyncIterator[tuple[RelayEgress, Pump]]:
    pump = Pump(asyncio.get_running_loop())
    via = RelayEgress(url, token=TOKEN, exit=exit_name, **options)
    await via.start(pump)
    try:
        yield via, pump
    finally:
        await via.close()
        pump.close()


async def client_of(via: RelayEgress, pump: Pump, port: int) -> Wire:
    return Wire(joined(pump, await via.open(Target("127.0.0.1", port, "c"))))


WAYS = [pytest.param("", id="relay"), pytest.param("office", id="exit")]


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_way_that_goes_silent_is_found_dead_and_its_streams_aborted(exit_name) -> None:
    ends: list[Wire] = []

    async def serve(wire: Wire) -> None:
        ends.append(wire)
        await hold(wire)

    async with (
        Service(serve) as service,
        relay_with_exit(QUICK) as relay,
        Forwarder(relay) as between,
        leaving(between.url, exit_name) as (via, pump),
    ):
        client = await client_of(via, pump, service.port)
        await until(lambda: ends)
        for hop in between.hops:
            hop.freeze()
        await client.broken()
        await ends[0].broken()
        await until(lambda: not relay._egress.active)
        client.close()


@pytest.mark.parametrize("exit_name", WAYS)
async def test_after_a_restart_of_the_relay_all_find_each_other_again(exit_name) -> None:
    port = free_port()
    dialer = Dialer()
    relay = Relay(listen=f"127.0.0.1:{port}", tokens=[TOKEN], exit_dialer=lambda: dialer)
    await relay.start()
    url = relay.url
    async with (
        Service(echo) as service,
        Agent(url, token=TOKEN, identity="exit") as agent,
        leaving(url, exit_name) as (via, pump),
    ):
        offered = await agent.offer(dialer, name="office")
        first = await client_of(via, pump, service.port)
        await relay.close()
        await first.broken()
        first.close()
        await until(lambda: not via.connected and not agent.connected)
        async with Relay(listen=f"127.0.0.1:{port}", tokens=[TOKEN], exit_dialer=lambda: dialer):
            await until(lambda: via.connected and agent.connected and offered.up)
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        second = await client_of(via, pump, service.port)
                        break
                    except errors.NoExitError:  # the agent asks for its exit again
                        await asyncio.sleep(0.01)
            await second.send(b"back")
            assert await second.exactly(4) == b"back"
            second.close()


@pytest.mark.parametrize("exit_name", WAYS)
async def test_opening_may_be_cancelled_anywhere(exit_name) -> None:
    async with (
        Service(echo) as service,
        relay_with_exit(dialer=Dialer(at_once=False)) as relay,
        leaving(relay.url, exit_name) as (via, pump),
    ):

        async def the_via() -> RelayEgress:
            return via

        async def open_one(via: RelayEgress) -> None:
            stream = await via.open(Target("127.0.0.1", service.port, "c"))
            stream.cancel("done")

        async def all_gone(via: RelayEgress) -> None:
            await until(lambda: not via.active and not relay._egress.active)

        assert await cancelled_at_each_step(the_via, open_one, all_gone) > 1
        client = await client_of(via, pump, service.port)  # nothing is in the way of the next
        await client.send(b"x")
        assert await client.exactly(1) == b"x"
        client.close()


async def test_starting_may_be_cancelled_anywhere() -> None:
    pump = Pump(asyncio.get_running_loop())
    async with relay_with_exit() as relay:

        async def make() -> RelayEgress:
            return RelayEgress(relay.url, token=TOKEN)

        async def start(via: RelayEgress) -> None:
            await via.start(pump)

        async def is_gone(via: RelayEgress) -> None:
            await via.close()
            await until(lambda: len(relay._door.sessions) == 1)  # the exit's

        assert await cancelled_at_each_step(make, start, is_gone) > 3
    pump.close()


@pytest.mark.parametrize("exit_name", WAYS)
async def test_over_tls_every_byte_and_half_close(exit_name, tmp_path: Path) -> None:
    """With a proxy in front of the relay that ends TLS, as one would run it."""
    issued = certificate(tmp_path)
    up, down = os.urandom(1_500_000), os.urandom(2_500_000)

    async def serve(wire: Wire) -> None:
        assert await wire.rest() == up
        await wire.send(down)
        wire.shutdown()

    async with Service(serve) as service, relay_with_exit() as relay:
        async with (
            Front(relay.addresses[0], issued.server_context()) as port,
            leaving(f"wss://localhost:{port}", exit_name, ca=str(issued.ca)) as (via, pump),
        ):
            for _ in range(2):
                client = await client_of(via, pump, service.port)
                async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                    group.create_task(send_and_end(client.sock, up))
                    received = group.create_task(read_all(client.sock))
                assert received.result() == down
                client.close()
                await until(lambda: not via.active)


async def test_many_streams_at_once_each_have_their_own_bytes() -> None:
    async with (
        Service(echo) as service,
        relay_with_exit() as relay,
        leaving(relay.url, "office") as (via, pump),
    ):

        async def one(number: int) -> None:
            data = os.urandom(20_000 + number)
            client = await client_of(via, pump, service.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(send_and_end(client.sock, data))
                received = group.create_task(read_all(client.sock))
            assert received.result() == data
            client.close()

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(one(number))
        await until(lambda: not via.active and not relay._egress.active)
        assert len(via._link.pool.channels) <= 60

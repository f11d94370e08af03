"""What happens when parts die, stall, run out of descriptors, or are fed nonsense."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.http_support import OK, answering
from tests.e2e.http_support import tunnelled as http_tunnelled
from tests.e2e.tcp_support import (
    PATIENCE,
    Service,
    Wire,
    comes_back,
    dial,
    echo,
    hold,
    part,
    tunnelled,
    until,
    visiting,
)
from tests.support.addresses import free_port
from tests.support.processes import Child
from tests.support.scripted import ScriptedAgent
from tunnelkit.agent import Agent
from tunnelkit.net.pump import READ_SIZE
from tunnelkit.wire.messages import Open, Request

# --- kill -9 ------------------------------------------------------------------------------------


@dataclass
class Parts:
    """A tunnel of which every part is a process of its own."""

    relay: Child
    agent: Child
    service: Child
    service_port: int
    listen: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.agent.ready[1].removeprefix("tcp://").rpartition(":")
        return host, int(port)


@asynccontextmanager
async def in_processes(stack: AsyncExitStack, does: str) -> AsyncIterator[Parts]:
    listen = f"127.0.0.1:{free_port()}"
    relay, service = await asyncio.gather(
        stack.enter_async_context(part("relay", listen=listen)),
        stack.enter_async_context(part("service", does=does)),
    )
    port = int(service.ready[1])
    agent = await stack.enter_async_context(
        part("agent", url=relay.ready[1], target=f"127.0.0.1:{port}", wishes={})
    )
    yield Parts(relay, agent, service, port, listen)


async def ends(visitor: Wire) -> str:
    """How a visitor's connection ends: ``reset`` or ``clean``. It has to, and soon."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            while await loop.sock_recv(visitor.sock, 1 << 20):
                pass
    except ConnectionResetError:
        return "reset"
    return "clean"


async def keep_sending(visitor: Wire) -> str:
    """How it ends. The kernel tells of a reset once, whoever asks first: a reader or a writer."""
    try:
        while True:
            await asyncio.get_running_loop().sock_sendall(visitor.sock, bytes(1 << 16))
    except ConnectionResetError:
        return "reset"
    except BrokenPipeError:
        return "broken pipe"


STAGES = {
    "before opened": "echo",
    "on the way up": "sink",
    "on the way down": "source",
    "after the end": "hold",
}


@pytest.mark.parametrize("victim", ["relay", "agent", "service"])
@pytest.mark.parametrize("stage", STAGES)
async def test_whoever_is_killed_nothing_hangs_and_all_comes_back(stage: str, victim: str) -> None:
    async with AsyncExitStack() as stack, in_processes(stack, STAGES[stage]) as parts:
        if stage == "before opened":
            parts.agent.signal(signal.SIGSTOP)
        visitor = Wire(await dial(*parts.address))
        stack.callback(visitor.close)
        sending = None
        if stage == "on the way up":
            sending = asyncio.create_task(keep_sending(visitor))
        elif stage == "after the end":
            await visitor.send(bytes(1_000_000))
            visitor.shutdown()
        if stage != "before opened":
            await parts.service.expect_async("accepted")
        if stage == "on the way down":
            await visitor.exactly(1_000_000)

        getattr(parts, victim).kill()
        if victim != "agent":
            parts.agent.signal(signal.SIGCONT)
        seen = [] if (stage, victim) == ("before opened", "service") else [await ends(visitor)]
        if sending is not None:
            seen.append(await asyncio.wait_for(sending, PATIENCE))
        if victim == "agent":  # the others are alive, and can tell
            assert "reset" in seen

        await bring_back(stack, parts, victim)
        async with visiting(*parts.address) as again:
            await again.send(b"x")
            await parts.service.expect_async("accepted")


async def bring_back(stack: AsyncExitStack, parts: Parts, victim: str) -> None:
    """Start the victim again as it was, on its own address."""
    if victim == "relay":
        parts.relay = await stack.enter_async_context(part("relay", listen=parts.listen))
        await parts.agent.expect_async(r"(?s)tunnel_up.*tunnel_up")
    elif victim == "agent":
        wishes = {"remote_port": parts.address[1]}
        target = f"127.0.0.1:{parts.service_port}"
        parts.agent = await stack.enter_async_context(
            part("agent", url=parts.relay.ready[1], target=target, wishes=wishes)
        )
    else:
        parts.service = await stack.enter_async_context(part("service", port=parts.service_port, does="sink"))


# --- running out --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="descriptor limits are POSIX")
async def test_a_relay_out_of_descriptors_recovers_by_itself() -> None:
    """64 descriptors, 200 visitors that all want to stay."""
    async with Service(echo) as service, part("relay", descriptors=64, limits={"channel_wait": 1.0}) as relay:
        async with Agent(relay.ready[1]) as agent:
            tunnel = await agent.open("tcp", service.port)
            address = tunnel.host, tunnel.port
            visitors = [Wire(await dial(*address)) for _ in range(200)]
            with suppress(ConnectionError):  # on a busy machine, the first have waited for long enough
                for visitor in visitors:
                    await visitor.send(b"here")
            await relay.expect_async("cannot accept")
            for visitor in visitors:
                visitor.close()
            await comes_back(*address)
            await until(lambda: agent.connected)
            assert tunnel.up
        assert 1 <= relay.stderr.count("cannot accept") <= 2  # once each of its two listeners
        assert len(relay.stderr.splitlines()) < 40


@pytest.mark.skipif(os.name != "posix", reason="descriptor limits are POSIX")
async def test_idle_data_channels_keep_no_visitor_out() -> None:
    """They fill the relay's 64 descriptors, and it would let them idle for a minute."""
    async with Service(echo) as service, part("relay", descriptors=64) as relay:
        async with Agent(relay.ready[1]) as agent:
            tunnel = await agent.open("tcp", service.port)
            agent._link.pool.more(60)
            await relay.expect_async("cannot accept")
            async with visiting(tunnel.host, tunnel.port) as visitor:
                await visitor.send(b"here")
                assert await visitor.exactly(4) == b"here"


@pytest.mark.skipif(os.name != "posix", reason="descriptor limits are POSIX")
async def test_idle_visitors_keep_no_visitor_out() -> None:
    """Kept-alive connections that carry no request fill the relay's descriptors."""
    async with Service(answering(OK)) as service, part("relay", descriptors=64) as relay:
        async with AsyncExitStack() as stack:
            agent = await stack.enter_async_context(Agent(relay.ready[1]))
            tunnel = await agent.open("http", service.port)
            request = f"GET / HTTP/1.1\r\nHost: {tunnel.host}\r\n\r\n".encode()
            for _ in range(100):
                visitor = await stack.enter_async_context(visiting(tunnel.host, tunnel.port))
                assert (await visitor.ask(request)).status == 200
            assert "cannot accept" in relay.stderr


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/PID/smaps_rollup")
async def test_readers_that_stall_do_not_fill_the_relays_memory() -> None:
    """200 of them, each with ten megabytes to read."""

    async def serve(wire: Wire) -> None:
        await wire.send(bytes(10_000_000))

    def rss(child: Child) -> int:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    async def stalled(address: tuple[str, int]) -> Wire:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return Wire(sock)

    async with AsyncExitStack() as stack, Service(serve) as service, part("relay") as relay:
        agent = await stack.enter_async_context(Agent(relay.ready[1]))
        tunnel = await agent.open("tcp", service.port)
        address = tunnel.host, tunnel.port
        before = rss(relay)
        visitors = []
        for _ in range(200):
            visitors.append(await stalled(address))
            stack.callback(visitors[-1].close)
        await until(lambda: tunnel.traffic.open == 200)
        await settled(lambda: tunnel.traffic.totals()[1])
        assert tunnel.traffic.totals()[1] < 200 * 10_000_000  # they do stall
        assert rss(relay) - before < 200 * 3 * READ_SIZE
        for visitor in visitors[:100]:
            visitor.reset()
        await until(lambda: tunnel.traffic.open == 100)
        await visitors[150].exactly(1_000_000)


async def settled(value: Any) -> None:
    """Wait until ``value()`` has not changed for a while."""
    async with asyncio.timeout(3 * PATIENCE):
        last = None
        while (now := value()) != last:
            last = now
            await asyncio.sleep(0.3)


# --- nonsense -----------------------------------------------------------------------------------


async def feed(address: tuple[str, int], data: bytes) -> None:
    """Send ``data`` and see the connection end."""
    async with visiting(*address) as visitor:
        with suppress(ConnectionError):
            await visitor.send(data)
            visitor.shutdown()
            await visitor.rest()


@pytest.mark.parametrize("seed", range(3))
async def test_a_million_random_bytes_at_the_port_of_agents_and_visitors(seed: int) -> None:
    data = random.Random(seed).randbytes(1_000_000)
    async with Service(answering(OK)) as service, http_tunnelled(service, domain="test") as site:
        await feed(site.address, data)
        for start in range(0, 100_000, 1000):
            await feed(site.address, data[start : start + 1000])
        assert (await site.ask()).status == 200
        assert len(service.connections) == 1


async def test_a_million_random_bytes_at_a_tunnel_reach_its_service_and_nothing_else() -> None:
    data = os.urandom(1_000_000)
    async with Service(hold) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        await visitor.send(data)
        visitor.shutdown()
        assert await (await service.connection()).rest() == data


@pytest.mark.parametrize("first", [b"\x82", b"\x81", b""], ids=["payload", "text", "anything"])
async def test_random_bytes_on_a_data_channel_end_it_alone(first: bytes) -> None:
    async with tunnelled(1) as site, ScriptedAgent(site.relay.url) as agent:
        control = await agent.connect()
        tunnel, good = await agent.tunnel(control, Request(1, "tcp"))
        for number in range(100, 140):
            channel = await agent.channel(number)
            with suppress(ConnectionError):
                await channel.say(first + os.urandom(10_000))
            channel.sock.shutdown(socket.SHUT_WR)
            await channel.end()
        async with visiting("127.0.0.1", tunnel.port):
            assert (await good.hear(Open)).tunnel == 1


# --- blocked ------------------------------------------------------------------------------------


async def test_a_visitor_that_never_reads_holds_up_nobody_else() -> None:
    async def serve(wire: Wire) -> None:
        if await wire.exactly(1) == b"!":
            await wire.send(bytes(50_000_000))
        await wire.send(b"done")

    async with Service(serve) as service, tunnelled(service.port) as site:
        stalled = await site.visit()
        await stalled.send(b"!")
        await until(lambda: any(not join.flowing for join in site.relay._tcp._visits))
        for _ in range(20):
            visitor = await site.visit()
            await visitor.send(b"?")
            assert await visitor.rest() == b"done"
            visitor.close()
        assert len(await stalled.rest()) == 50_000_004


async def test_what_is_blocked_ends_with_its_tunnel() -> None:
    async with Service(hold) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        wire = await service.connection()
        sending = [
            asyncio.create_task(visitor.send(bytes(50_000_000))),
            asyncio.create_task(wire.send(bytes(50_000_000))),
        ]
        await until(lambda: any(not join.flowing for join in site.relay._tcp._visits))
        await site.agent.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending[1], PATIENCE)
        await ends(visitor)  # the reset is reported once: to this or to the sender
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending[0], PATIENCE)

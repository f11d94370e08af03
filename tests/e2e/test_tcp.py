"""TCP tunnels from end to end: every byte, every end, many at once, with real programs behind them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.http_support import SPLICES
from tests.e2e.tcp_support import (
    PATIENCE,
    Service,
    Wire,
    answers,
    comes_back,
    connected,
    echo,
    event,
    goes_away,
    hold,
    no_failures,
    tunnelled,
    until,
    visiting,
)
from tests.support.addresses import free_port, free_port_range
from tests.support.processes import start_process
from tests.support.programs import program
from tunnelkit import errors
from tunnelkit.relay import Limits, Relay, ingress_tcp, tunnels
from tunnelkit.wire.proxy_protocol import SIGNATURE

splices = pytest.mark.parametrize("splice", SPLICES)


# --- ports --------------------------------------------------------------------------------------


async def test_ports_are_the_ones_asked_for_or_chosen_from_the_range() -> None:
    ports = free_port_range(3)
    async with Service(echo) as service, Relay(listen="127.0.0.1:0", tcp_ports=ports) as relay:
        async with connected(relay) as (agent, _):
            asked = await agent.open("tcp", service.port, remote_port=ports[1])
            assert asked.port == ports[1]
            chosen = [await agent.open("tcp", service.port) for _ in range(2)]
            assert {tunnel.port for tunnel in chosen} == {ports[0], ports[2]}
            for tunnel in (asked, *chosen):
                assert tunnel.url == f"tcp://127.0.0.1:{tunnel.port}"
                assert await answers(tunnel.host, tunnel.port)
            with pytest.raises(errors.PortTakenError, match="No port"):
                await agent.open("tcp", service.port)
            with pytest.raises(errors.PortTakenError, match=f"Port {ports[1]} is taken"):
                await agent.open("tcp", service.port, remote_port=ports[1])
            with pytest.raises(errors.PortNotAllowedError, match="outside the relay's range"):
                await agent.open("tcp", service.port, remote_port=ports.stop)
            await chosen[0].close()
            again = await agent.open("tcp", service.port)
            assert again.port == chosen[0].port


async def test_ports_that_another_program_has_are_passed_over() -> None:
    ports = free_port_range(3)
    async with Relay(listen="127.0.0.1:0", tcp_ports=ports) as relay, connected(relay) as (agent, _):
        with socket.create_server(("127.0.0.1", ports[0])), socket.create_server(("127.0.0.1", ports[2])):
            assert (await agent.open("tcp", 1)).port == ports[1]
            with pytest.raises(errors.PortTakenError):
                await agent.open("tcp", 1, remote_port=ports[0])


async def test_a_port_that_is_chosen_is_taken_from_nobody() -> None:
    """Two processes of one user on one machine are the same agent to a relay."""
    ports = free_port_range(2)
    async with Relay(listen="127.0.0.1:0", tcp_ports=ports, tokens=["hush"]) as relay:
        async with connected(relay, token="hush") as (one, _), connected(relay, token="hush") as (two, _):
            mine, yours = await one.open("tcp", 1), await two.open("tcp", 1)
            assert {mine.port, yours.port} == set(ports)
            with pytest.raises(errors.PortTakenError):
                await two.open("tcp", 1)
            assert mine.up


async def test_a_range_that_is_nearly_full_gives_its_last_port() -> None:
    ports = free_port_range(100)
    async with Relay(listen="127.0.0.1:0", tcp_ports=ports) as relay, connected(relay) as (agent, _):
        given = {(await agent.open("tcp", 1)).port for _ in ports}
        assert given == set(ports)


async def test_each_tunnel_leads_to_its_own_service() -> None:
    def says(word: bytes) -> Any:
        async def handle(wire: Wire) -> None:
            await wire.send(word)

        return handle

    async with Service(says(b"one")) as one, Service(says(b"two")) as two, tunnelled(one.port) as site:
        second = await site.agent.open("tcp", two.port)
        assert await (await site.visit()).rest() == b"one"
        assert await (await site.visit((second.host, second.port))).rest() == b"two"


async def test_a_closed_tunnel_gives_its_port_back_and_ends_what_ran_on_it() -> None:
    async with Service(echo) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        await visitor.send(b"x")
        await visitor.exactly(1)
        await site.tunnel.close()
        await visitor.broken()
        await goes_away(*site.address)


# --- the probe ----------------------------------------------------------------------------------


async def test_a_tunnel_comes_up_before_its_service_does() -> None:
    port = free_port()
    async with tunnelled(port) as site:
        await (await site.visit()).broken()
        server = socket.create_server(("127.0.0.1", port))
        server.setblocking(False)
        visitor = await site.visit()
        await visitor.send(b"hello")
        wire = Wire((await asyncio.get_running_loop().sock_accept(server))[0])
        assert await wire.exactly(5) == b"hello"
        wire.close()
        server.close()


async def test_the_service_sees_nothing_of_the_probe() -> None:
    async with Service(echo) as service, tunnelled(service.port) as site:
        assert await answers(*site.address)
        assert len(service.connections) == 1


class Deaf:
    """A listener that accepts nobody."""

    def __init__(self, loop: object, sock: socket.socket, on_accept: object) -> None:
        self.sock = sock
        self.address = sock.getsockname()
        self.close = sock.close


async def test_a_public_port_that_nobody_reaches_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Relay(listen="127.0.0.1:0", limits=Limits(probe_timeout=0.1)) as relay:
        async with connected(relay) as (agent, _):
            with monkeypatch.context() as patch:
                patch.setattr(tunnels, "Listener", Deaf)
                with pytest.raises(errors.TunnelTimeoutError, match="probe of tcp://127"):
                    await agent.open("tcp", 1)
            assert not agent.tunnels
            assert not relay._registry._tunnels
            await agent.open("tcp", 1)


async def test_an_answer_that_is_not_the_agents_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def accept(ingress: object, tunnel: object, sock: socket.socket, address: object) -> None:
        sock.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        sock.close()

    monkeypatch.setattr(ingress_tcp.TcpIngress, "accept", accept)
    async with Relay(listen="127.0.0.1:0") as relay, connected(relay) as (agent, _):
        with pytest.raises(errors.TunnelTimeoutError, match="somebody else"):
            await agent.open("tcp", 1)


# --- bytes --------------------------------------------------------------------------------------


async def digest(wire: Wire) -> tuple[int, str]:
    """Length and hash of everything up to the clean end."""
    loop, sum_, count = asyncio.get_running_loop(), hashlib.sha256(), 0
    async with asyncio.timeout(PATIENCE):
        while piece := await loop.sock_recv(wire.sock, 1 << 20):
            sum_.update(piece)
            count += len(piece)
    return count, sum_.hexdigest()


@splices
async def test_half_close_the_whole_answer_comes_after_the_visitors_end(splice: bool) -> None:
    up, down = os.urandom(1_000_000), os.urandom(20_000_000)

    async def serve(wire: Wire) -> None:
        assert await wire.rest() == up
        await wire.send(down)

    async with Service(serve) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()
        await visitor.send(up)
        visitor.shutdown()
        assert await digest(visitor) == (len(down), hashlib.sha256(down).hexdigest())
        await until(lambda: not site.agent.active)


@splices
async def test_half_close_the_service_may_end_first(splice: bool) -> None:
    up = os.urandom(20_000_000)
    received: list[tuple[int, str]] = []

    async def serve(wire: Wire) -> None:
        await wire.send(b"go on")
        wire.shutdown()
        received.append(await digest(wire))

    async with Service(serve) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()
        assert await visitor.rest() == b"go on"
        await visitor.send(up)
        visitor.shutdown()
        await until(lambda: received)
        assert received == [(len(up), hashlib.sha256(up).hexdigest())]


@splices
async def test_bulk_both_ways_at_once(splice: bool) -> None:
    data = os.urandom(30_000_000)
    async with Service(echo) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()

        async def send() -> None:
            await visitor.send(data)
            visitor.shutdown()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            received = group.create_task(digest(visitor))
        assert received.result() == (len(data), hashlib.sha256(data).hexdigest())
        assert site.tunnel.traffic.totals() == (len(data), len(data))


@splices
async def test_two_hundred_visitors_at_once(splice: bool) -> None:
    async with Service(echo) as service, tunnelled(service.port, splice=splice) as site:

        async def visit(number: int) -> None:
            data = os.urandom(5_000 + 997 * number)
            visitor = await site.visit()
            await visitor.send(data)
            visitor.shutdown()
            assert await visitor.rest() == data

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(visit(number))
        assert site.tunnel.traffic.connections == 200
        assert site.tunnel.traffic.failed == 0


async def test_channels_are_used_again() -> None:
    async with Service(echo) as service, tunnelled(service.port) as site:
        for number in range(500):
            async with visiting(*site.address) as visitor:
                await visitor.send(b"%d" % number)
                visitor.shutdown()
                assert await visitor.rest() == b"%d" % number
        assert site.tunnel.traffic.connections == 500
        assert site.agent._link.pool._next <= 8  # channels that were ever opened


# --- ends that are none -------------------------------------------------------------------------


@splices
async def test_a_visitor_that_resets_resets_the_service(splice: bool) -> None:
    async with Service(hold) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()
        await visitor.send(b"x")
        wire = await service.connection()
        await wire.exactly(1)
        visitor.reset()
        await wire.broken()


@splices
async def test_a_service_that_resets_resets_the_visitor_after_what_it_had_said(splice: bool) -> None:
    async with Service(hold) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()
        wire = await service.connection()
        await wire.send(b"the first half")
        assert await visitor.exactly(14) == b"the first half"
        wire.reset()
        assert await visitor.broken() == b""


async def test_a_service_that_is_not_there_resets_the_visitor_and_is_named() -> None:
    port = free_port()
    async with tunnelled(port) as site:
        for _ in range(2):
            visitor = await site.visit()
            await visitor.broken()
        said = await event(site.events, "service_error", "service_refused")
        assert said.what == f"Nothing accepts connections at localhost:{port}"
        assert said.tunnel == site.tunnel.number
        assert len(site.agent._link.pool.channels) <= 2  # a refusal costs no channel


@splices
async def test_a_visitor_that_resets_while_it_is_blocked_frees_the_service(splice: bool) -> None:
    async with Service(hold) as service, tunnelled(service.port, splice=splice) as site:
        visitor = await site.visit()
        wire = await service.connection()
        sending = asyncio.create_task(wire.send(bytes(50_000_000)))
        (join,) = site.relay._tcp._visits
        await until(lambda: not join.flowing)
        visitor.reset()
        with pytest.raises(ConnectionError):
            await sending
        await until(lambda: not site.agent.active and not site.relay._tcp.active)


# --- who the visitor is -------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"], ids=["IPv4", "IPv6"])
async def test_proxy_protocol_1_names_the_visitor(listen: str) -> None:
    async with Service(hold) as service, tunnelled(service.port, listen=listen, proxy_protocol=1) as site:
        host, port = site.address
        async with visiting(host, port) as visitor:
            await visitor.send(b"hello")
            family = "TCP6" if ":" in host else "TCP4"
            expected = f"PROXY {family} {host} {host} {visitor.port} {port}\r\nhello".encode()
            assert await (await service.connection()).exactly(len(expected)) == expected


async def test_proxy_protocol_2_names_the_visitor() -> None:
    async with Service(hold) as service, tunnelled(service.port, proxy_protocol=2) as site:
        visitor = await site.visit()
        await visitor.send(b"hello")
        addresses = socket.inet_aton("127.0.0.1") * 2
        ports = visitor.port.to_bytes(2) + site.tunnel.port.to_bytes(2)
        expected = SIGNATURE + b"\x21\x11\x00\x0c" + addresses + ports + b"hello"
        assert await (await service.connection()).exactly(len(expected)) == expected


# --- real programs and other targets ------------------------------------------------------------


@pytest.mark.needs("redis-server")
async def test_redis_behind_a_tunnel(tmp_path: Path) -> None:
    import redis.asyncio

    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    async with start_process([program("redis-server"), *options], ready=port), tunnelled(port) as site:
        client = redis.asyncio.Redis(host=site.tunnel.host, port=site.tunnel.port)
        try:
            async with asyncio.timeout(PATIENCE), client.pipeline() as pipeline:
                value = os.urandom(3_000_000)
                await client.set("blob", value)
                assert await client.get("blob") == value
                for number in range(1000):
                    pipeline.rpush("list", number)
                await pipeline.execute()
                assert await client.llen("list") == 1000
                async with client.pubsub() as listener:
                    await listener.subscribe("news")
                    await listener.get_message(timeout=PATIENCE)
                    await client.publish("news", b"fresh")
                    message = await listener.get_message(timeout=PATIENCE)
                    assert message is not None
                    assert message["data"] == b"fresh"
        finally:
            await client.aclose()


@splices
async def test_a_unix_socket_as_target(tmp_path: Path, splice: bool) -> None:
    path = tmp_path / "service.sock"
    data = os.urandom(2_000_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server, tunnelled(f"unix:{path}", splice=splice) as site:
        visitor = await site.visit()
        await visitor.send(data)
        visitor.shutdown()
        assert await visitor.rest() == data


async def test_a_unix_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    async with tunnelled(f"unix:{path}") as site:
        await (await site.visit()).broken()
        assert (await event(site.events, "service_error")).what.endswith(f"unix:{path}")


# --- shutdown -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["relay", "agent"])
async def test_what_runs_may_finish_and_nobody_new_comes_in(who: str) -> None:
    async with Service(hold) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        wire = await service.connection()
        closing = asyncio.create_task(getattr(site, who).close(grace=60.0))
        await goes_away(*site.address)
        await wire.send(b"the last word")
        wire.shutdown()
        assert await visitor.rest() == b"the last word"
        assert not closing.done()
        visitor.shutdown()
        assert await wire.rest() == b""
        await asyncio.wait_for(closing, PATIENCE)


@pytest.mark.parametrize("who", ["relay", "agent"])
async def test_closing_returns_at_once_when_nothing_runs(who: str) -> None:
    async with Service(echo) as service, tunnelled(service.port) as site:
        assert await answers(*site.address)
        await until(lambda: not site.agent.active and not site.relay._tcp.active)
        async with asyncio.timeout(5):
            await getattr(site, who).close(grace=60.0)


@pytest.mark.parametrize("who", ["relay", "agent"])
async def test_what_does_not_finish_in_time_is_ended(who: str) -> None:
    async with Service(hold) as service, tunnelled(service.port) as site:
        visitor = await site.visit()
        wire = await service.connection()
        await asyncio.wait_for(getattr(site, who).close(grace=0.1), PATIENCE)
        await visitor.broken()
        await wire.broken()


async def test_a_relay_is_closed_once_however_many_ask() -> None:
    async with no_failures(), Relay(listen="127.0.0.1:0") as relay:
        async with connected(relay) as (agent, events):
            await agent.open("tcp", 1)
            await asyncio.gather(*[relay.close() for _ in range(3)])
            await relay.close()
            await event(events, "disconnected")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", ":0", "localhost:0"])
async def test_a_relay_on_every_address_says_one_that_works(listen: str) -> None:
    async with (
        Service(echo) as service,
        Relay(listen=listen, anyone=True) as relay,
        connected(relay) as (agent, _),
    ):
        tunnel = await agent.open("tcp", service.port)
        await comes_back(tunnel.host, tunnel.port)

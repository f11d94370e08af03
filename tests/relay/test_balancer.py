"""Connections by a load balancer, whose header says who the visitor is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.http_support import GET, OK, PATIENCE, Service, Wire, answering, tunnelled
from tests.support import free_port, program, start_process
from tests.support.scripted import until
from tunnelkit.agent import Agent
from tunnelkit.errors import InvalidError
from tunnelkit.relay import Limits, Relay
from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.proxy_protocol import header_v1, header_v2

BALANCER = "127.0.0.9"
VISITOR = Endpoint("192.0.2.7", 40000)
HERE = Endpoint("198.51.100.1", 80)
HEADERS = [pytest.param(header(VISITOR, HERE), id=header.__name__) for header in (header_v1, header_v2)]


@contextmanager
def connected(address: tuple[str, int], *, source: str = BALANCER) -> Iterator[Wire]:
    with socket.create_connection(address, source_address=(source, 0)) as sock:
        yield Wire(sock)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("domain", ["test", ""])
async def test_the_service_hears_who_the_visitor_is(header: bytes, domain: str) -> None:
    async with (
        Service(answering(OK)) as service,
        tunnelled(service, domain=domain, proxy_protocol_from=[BALANCER]) as site,
    ):
        with connected(site.address) as visitor:
            await visitor.send(header + GET)
            assert (await visitor.response()).status == 200
            assert (await visitor.ask()).status == 200
            assert service.seen.count(b"X-Forwarded-For: 192.0.2.7\r\n") == 2
            assert b'Forwarded: for="192.0.2.7:40000";' in service.seen


async def test_a_header_may_come_byte_by_byte() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, proxy_protocol_from=[BALANCER]) as site:
        for header in (header_v1(VISITOR, HERE), header_v2(VISITOR, HERE)):
            with connected(site.address) as visitor:
                for byte in header + GET:
                    await visitor.send(bytes([byte]))
                    await asyncio.sleep(0)
                assert (await visitor.response()).status == 200
        assert service.seen.count(b"X-Forwarded-For: 192.0.2.7\r\n") == 2


async def test_a_health_check_speaks_for_itself() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, proxy_protocol_from=[BALANCER]) as site:
        for header in (header_v1(None, None), header_v2(None, None)):
            with connected(site.address) as visitor:
                await visitor.send(header + GET)
                assert (await visitor.response()).status == 200
        assert service.seen.count(f"X-Forwarded-For: {BALANCER}\r\n".encode()) == 2


async def test_a_balancer_without_a_header_is_not_let_in() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, proxy_protocol_from=[BALANCER]) as site:
        with connected(site.address) as visitor:
            await visitor.send(GET)
            try:
                assert await visitor.ended()
            except ConnectionResetError:
                pass  # of the request nothing was read
            assert not service.seen


async def test_nobody_else_says_who_he_is() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, proxy_protocol_from=[BALANCER]) as site:
        visitor = await site.visit()
        assert (await visitor.ask(header_v1(VISITOR, HERE) + GET)).status == 400
        assert not service.seen


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 192."])
async def test_whoever_does_not_finish_the_header_is_let_go(sent: bytes) -> None:
    async with (
        Service(answering(OK)) as service,
        tunnelled(service, proxy_protocol_from=[BALANCER], limits=Limits(head_timeout=0.2)) as site,
    ):
        with connected(site.address) as visitor:
            await visitor.send(sent)
            assert await visitor.ended()


async def test_a_relay_that_ends_waits_for_no_header() -> None:
    relay = await Relay(listen="127.0.0.1:0", proxy_protocol_from=[BALANCER]).start()
    with connected(relay.addresses[0]) as visitor:
        await visitor.send(b"PROXY")
        await until(lambda: relay._balanced._waiting)
        await relay.close()
        await visitor.broken()


async def test_what_is_no_network_is_refused_at_once() -> None:
    with pytest.raises(InvalidError, match="load balancer"):
        Relay(proxy_protocol_from=["10.0.0.1/8"])


async def test_a_tcp_tunnel_tells_its_agent_too() -> None:
    arrived: list[bytes] = []

    async def service(wire: Wire) -> None:
        arrived.append(await wire.until(b"\n"))
        await wire.send(b"ok")

    async with (
        Service(service) as local,
        Relay(listen="127.0.0.1:0", proxy_protocol_from=[BALANCER]) as relay,
        Agent(relay.url) as agent,
    ):
        tunnel = await agent.open("tcp", local.port, proxy_protocol=1)
        with connected(("127.0.0.1", tunnel.port)) as visitor:
            await visitor.send(header_v2(VISITOR, HERE) + b"hello\n")
            assert await visitor.rest() == b"ok"
            (line,) = arrived
            assert line.startswith(b"PROXY TCP4 192.0.2.7 ")
            assert line.endswith(f" 40000 {tunnel.port}\r\n".encode())


CONFIGURATION = """
defaults
    mode tcp
    timeout client 10s
    timeout server 10s
    timeout connect 5s
frontend visitors
    bind 127.0.0.1:{port}
    default_backend relay
backend relay
    source {balancer}
    server relay 127.0.0.1:{relay} {send}
"""


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize(
    "send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check-send-proxy check inter 200"]
)
async def test_haproxy_in_front(tmp_path: Path, send: str) -> None:
    async with Service(answering(OK)) as service, tunnelled(service, proxy_protocol_from=[BALANCER]) as site:
        port, configuration = free_port(), tmp_path / "haproxy.cfg"
        relay = site.address[1]
        configuration.write_text(CONFIGURATION.format(port=port, balancer=BALANCER, relay=relay, send=send))
        async with start_process([program("haproxy"), "-db", "-f", configuration], ready=port):
            async with asyncio.timeout(PATIENCE):
                with connected(("127.0.0.1", port), source="127.0.0.5") as visitor:
                    assert (await visitor.ask()).status == 200
        assert b"X-Forwarded-For: 127.0.0.5\r\n" in service.seen

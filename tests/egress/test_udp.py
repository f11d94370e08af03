"""UDP associations: whose datagrams go out, and which come back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.http_support import PATIENCE, Wire
from tests.egress.support import Site, proxied, request5
from tests.support.scripted import until
from tunnelkit.egress import Limits


@contextmanager
def datagrams(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


async def heard(sock: socket.socket) -> tuple[bytes, Any]:
    """The next datagram, and where it came from. uvloop has no sock_recvfrom."""
    result: list[tuple[bytes, Any]] = []

    def received() -> bool:
        try:
            result.append(sock.recvfrom(65536))
        except BlockingIOError:
            return False
        return True

    await until(received, PATIENCE)
    return result[0]


async def associate(site: Site) -> tuple[Wire, tuple[str, int]]:
    """The control connection, and where datagrams go."""
    client = await site.client()
    await client.send(b"\x05\x01\x00" + request5("0.0.0.0", 0, command=3))
    assert await client.exactly(2) == b"\x05\x00"
    reply = await client.exactly(10)
    assert reply[:4] == b"\x05\x00\x00\x01"
    return client, (socket.inet_ntoa(reply[4:8]), int.from_bytes(reply[8:]))


def wrapped(address: tuple[str, int], payload: bytes, fragment: int = 0) -> bytes:
    return bytes([0, 0, fragment]) + request5(*address)[3:] + payload


async def test_there_and_back() -> None:
    async with proxied() as site:
        with datagrams() as client, datagrams() as service:
            control, relay = await associate(site)
            place = service.getsockname()
            client.sendto(wrapped(place, b"up"), relay)
            payload, source = await heard(service)
            assert payload == b"up"
            service.sendto(b"down", source)
            assert (await heard(client))[0] == wrapped(place, b"down")
            control.close()
            await until(lambda: site.log)
            (access,) = site.log
            assert (access.protocol, access.end) == ("socks5-udp", "ok")
            assert access.received == 4
            assert not site.proxy.active


async def test_strangers_and_parts_are_dropped_on_either_side() -> None:
    async with proxied() as site:
        with datagrams() as client, datagrams("127.0.0.2") as stranger, datagrams() as service:
            _, relay = await associate(site)
            place = service.getsockname()
            stranger.sendto(wrapped(place, b"stranger"), relay)
            client.sendto(wrapped(place, b"part", fragment=1), relay)
            client.sendto(b"\0\0", relay)  # no header at all
            client.sendto(wrapped(place, b"mine"), relay)
            payload, source = await heard(service)
            assert payload == b"mine"
            with datagrams() as other:
                other.sendto(wrapped(place, b"another port"), relay)
                other.sendto(b"not asked", source)  # an answer from where nothing was sent
            service.sendto(b"asked", source)
            assert (await heard(client))[0] == wrapped(place, b"asked")
            with pytest.raises(BlockingIOError):
                service.recv(100)


async def test_rules_hold_for_each_destination() -> None:
    async with proxied(rules=["allow 127.0.0.1"]) as site:
        with datagrams() as client, datagrams("127.0.0.3") as denied, datagrams() as service:
            _, relay = await associate(site)
            client.sendto(wrapped(denied.getsockname(), b"no"), relay)
            client.sendto(wrapped(site.proxy.addresses[0], b"no"), relay)
            client.sendto(wrapped(service.getsockname(), b"yes"), relay)
            assert (await heard(service))[0] == b"yes"
            with pytest.raises(BlockingIOError):
                denied.recv(100)


async def test_they_leave_from_the_pinned_address() -> None:
    async with proxied(source_ips=["127.0.0.9"]) as site:
        with datagrams() as client, datagrams() as service:
            control, relay = await associate(site)
            client.sendto(wrapped(service.getsockname(), b"up"), relay)
            assert (await heard(service))[1][0] == "127.0.0.9"
            control.close()
            await until(lambda: site.log)
            assert site.log[0].source == "127.0.0.9"


async def test_answers_are_let_in_from_so_many_destinations() -> None:
    async with proxied(limits=Limits(udp_destinations=1)) as site:
        with datagrams() as client, datagrams() as first, datagrams() as second:
            _, relay = await associate(site)
            client.sendto(wrapped(first.getsockname(), b"1"), relay)
            _, source = await heard(first)
            client.sendto(wrapped(second.getsockname(), b"2"), relay)
            await heard(second)
            first.sendto(b"late", source)
            second.sendto(b"now", source)
            assert (await heard(client))[0] == wrapped(second.getsockname(), b"now")


async def test_the_association_ends_with_its_control_connection_however_that_ends() -> None:
    async with proxied() as site:
        for end in (Wire.close, Wire.reset, Wire.shutdown):
            control, relay = await associate(site)
            assert site.proxy.active == 1
            end(control)
            await until(lambda: not site.proxy.active)
            with datagrams() as probe:
                probe.connect(relay)
                probe.send(b"?")
                await asyncio.sleep(0)
                with pytest.raises(ConnectionRefusedError):
                    probe.send(b"?")  # the first one's answer: nobody is there


async def test_so_many_at_once() -> None:
    async with proxied(limits=Limits(associations=1)) as site:
        await associate(site)
        client = await site.client()
        await client.send(b"\x05\x01\x00" + request5("0.0.0.0", 0, command=3))
        assert (await client.rest())[3] == 1
        assert site.ends == ["limit"]


async def test_none_through_another_proxy() -> None:
    async with proxied(upstream="socks5://127.0.0.1:1") as site:
        client = await site.client()
        await client.send(b"\x05\x01\x00" + request5("0.0.0.0", 0, command=3))
        assert (await client.rest())[3] == 7  # command not supported

"""PROXY protocol headers as HAProxy reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import free_port, program, start_process
from tunnelkit.wire.address import Endpoint
from tunnelkit.wire.proxy_protocol import header_v1, header_v2

pytestmark = pytest.mark.needs("haproxy")

Header = Callable[[Endpoint | None, Endpoint | None], bytes]

CONFIGURATION = """
defaults
    mode http
    timeout client 10s
frontend said
    bind 127.0.0.1:{port} accept-proxy
    http-request return content-type text/plain lf-string "[%ci]:%cp to [%fi]:%fp"
frontend ready
    bind 127.0.0.1:{ready}
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[int]:
    """A port that answers an HTTP request with the addresses its PROXY header gave."""
    port, ready = free_port(), free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, ready=ready))
    with start_process([program("haproxy"), "-db", "-f", configuration], ready=ready):
        yield port


async def what_haproxy_sees(port: int, header: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(header + b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("header", [header_v1, header_v2])
async def test_haproxy_takes_the_addresses_from_the_header(haproxy: int, header: Header) -> None:
    v4 = header(Endpoint("192.0.2.1", 51000), Endpoint("198.51.100.7", 80))
    assert await what_haproxy_sees(haproxy, v4) == "[192.0.2.1]:51000 to [198.51.100.7]:80"
    v6 = header(Endpoint("2001:db8::1", 51000), Endpoint("2001:db8::2", 80))
    assert await what_haproxy_sees(haproxy, v6) == "[2001:db8::1]:51000 to [2001:db8::2]:80"
    mixed = header(Endpoint("192.0.2.1", 1), Endpoint("2001:db8::2", 80))
    assert await what_haproxy_sees(haproxy, mixed) == "[::ffff:192.0.2.1]:1 to [2001:db8::2]:80"


@pytest.mark.parametrize("header", [header_v1, header_v2])
async def test_haproxy_takes_the_connections_own_where_none_are_known(haproxy: int, header: Header) -> None:
    seen = await what_haproxy_sees(haproxy, header(None, None))
    assert seen.startswith("[127.0.0.1]:")
    assert seen.endswith(f" to [127.0.0.1]:{haproxy}")

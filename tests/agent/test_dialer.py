"""One connection to the relay: what can go wrong on the way, and how it is named."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support.addresses import free_port
from tests.support.scripted import PATIENCE
from tunnelkit import errors
from tunnelkit.agent import dialer as module
from tunnelkit.agent.dialer import WebSocketDialer
from tunnelkit.agent.link import Trust
from tunnelkit.net.sockets import hard_close
from tunnelkit.wire.relay_url import RelayUrl


def link_to(port: int, token: str = "hush", host: str = "127.0.0.1", **environ: str) -> WebSocketDialer:
    return WebSocketDialer(RelayUrl.parse(f"ws://{host}:{port}"), token, environ=environ)


@pytest.fixture
async def server() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


async def test_a_relay_that_is_not_there() -> None:
    link = link_to(free_port())
    with pytest.raises(errors.RelayUnreachableError, match="refused"):
        await link.control()
    link.close()


async def test_a_relay_that_says_nothing(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.05)
    link = link_to(server.getsockname()[1])
    with pytest.raises(errors.RelayUnreachableError, match="in time"):
        await link.control()
    link.close()


async def test_a_relay_that_resets(server: socket.socket) -> None:
    link = link_to(server.getsockname()[1])
    connecting = asyncio.create_task(link.control())
    sock, _ = await asyncio.get_running_loop().sock_accept(server)
    hard_close(sock)
    with pytest.raises(errors.RelayUnreachableError, match="broke"):
        await asyncio.wait_for(connecting, PATIENCE)
    link.close()


async def test_cancelled_in_its_handshake_it_closes_its_connection(server: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    link = link_to(server.getsockname()[1])
    connecting = asyncio.create_task(link.control())
    sock, _ = await loop.sock_accept(server)
    with sock:
        assert await loop.sock_recv(sock, 4096)
        connecting.cancel()
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(sock, 4096) == b""
    await asyncio.gather(connecting, return_exceptions=True)
    link.close()


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Admin: yes", "tökén", "a\0", " a", "a\n"])
def test_a_token_that_is_no_header_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(errors.InvalidError) as refusal:
        Trust(token)
    assert token not in str(refusal.value)


def test_no_text_shows_the_token() -> None:
    assert "hush" not in repr(link_to(1)) + repr(Trust("hush"))


@pytest.mark.parametrize(
    ("url", "random"),
    [
        ("ws://relay.test", True),
        ("ws://127.0.0.1:8080", False),
        ("ws://localhost:8080", False),
        ("ws://[::1]:8080", False),
        ("wss://relay.test", False),
    ],
)
def test_masks_are_random_where_an_intermediary_could_read(url: str, random: bool) -> None:
    assert WebSocketDialer(RelayUrl.parse(url), "", environ={}).random_mask is random


def test_a_proxy_that_is_none_stops_the_agent_before_it_connects() -> None:
    with pytest.raises(errors.InvalidError, match="ALL_PROXY"):
        link_to(1, host="relay.test", ALL_PROXY="gopher://proxy")


def test_this_machine_is_never_behind_a_proxy() -> None:
    assert link_to(1, ALL_PROXY="socks5://proxy:1080").proxy is None

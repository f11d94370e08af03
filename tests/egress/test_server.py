"""The proxy as an object: who may start it, its limits, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.http_support import Wire
from tests.egress.support import hear_connect, proxied, request5
from tests.support.scripted import dial, until
from tunnelkit import EgressProxy
from tunnelkit.egress import Access, Limits, User, UserLimits, front, hash_password
from tunnelkit.errors import (
    AddressInUseError,
    AuthMissingError,
    DestinationDeniedError,
    InvalidError,
    ProxyUnavailable,
)

ALICE = User("alice", hash_password("secret"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"listen": "0.0.0.0:0"}, AuthMissingError),
        ({"listen": [":0", "127.0.0.1:0"]}, AuthMissingError),
        ({"users": []}, AuthMissingError),
        ({"clients": []}, AuthMissingError),
        ({"users": [ALICE], "anyone": True}, InvalidError),
        ({"clients": ["not an address"]}, InvalidError),
        ({"source_ips": ["here"]}, InvalidError),
        ({"rules": ["maybe *"]}, InvalidError),
        ({"upstream": "ftp://127.0.0.1"}, InvalidError),
    ],
)
def test_what_cannot_be_meant(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        EgressProxy(**options)


@pytest.mark.parametrize("who", [{"users": [ALICE]}, {"clients": ["192.0.2.0/24"]}, {"anyone": True}])
def test_a_public_proxy_that_says_who_may_use_it(who: dict[str, Any]) -> None:
    EgressProxy(listen="0.0.0.0:0", **who)


async def test_an_address_that_is_not_of_this_machine() -> None:
    with pytest.raises(ProxyUnavailable, match=r"192\.0\.2\.1"):
        await EgressProxy(source_ips=["192.0.2.1"]).start()


async def test_a_listener_that_is_taken() -> None:
    async with EgressProxy() as proxy:
        host, port = proxy.addresses[0]
        with pytest.raises(AddressInUseError):
            await EgressProxy(listen=["127.0.0.1:0", f"{host}:{port}"]).start()


async def test_its_urls_and_its_dialer() -> None:
    async with proxied(source_ips=["127.0.0.9"]) as site:
        port = site.proxy.addresses[0][1]
        assert site.proxy.url == f"http://127.0.0.1:{port}"
        assert site.proxy.socks_url == f"socks5h://127.0.0.1:{port}"
        sock = await site.proxy.dial("127.0.0.1", site.port)
        assert sock.getsockname()[0] == "127.0.0.9"
        sock.close()
        with pytest.raises(DestinationDeniedError):  # itself, whatever the rules say
            await site.proxy.dial("127.0.0.1", port)


async def test_pins_come_and_go_while_it_runs() -> None:
    async with proxied(source_ips=["127.0.0.9"]) as site:
        first = await site.client()
        running = await hear_connect(site, first)
        site.proxy.add_source_ip("127.0.0.10")
        site.proxy.remove_source_ip("127.0.0.9")
        assert list(site.proxy.source_ips) == ["127.0.0.10"]
        service = await hear_connect(site, await site.client())
        assert service.sock.getpeername()[0] == "127.0.0.10"
        await first.send(b"still there")
        assert await running.exactly(11) == b"still there"
        assert running.sock.getpeername()[0] == "127.0.0.9"


async def test_a_pin_that_is_gone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(source_ips=["127.0.0.9"]) as site:
        assert site.proxy.pins is not None

        def gone(*_: object) -> list[str]:
            raise ProxyUnavailable("127.0.0.9 is not an address of this machine")

        monkeypatch.setattr(type(site.proxy.pins), "candidates", gone)
        client = await site.client()
        await client.send(b"\x05\x01\x00" + request5("127.0.0.1", site.port))
        assert (await client.rest())[3] == 1
        client = await site.client()
        await client.send(f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n\r\n".encode())
        assert (await client.rest()).startswith(b"HTTP/1.1 503 ")
        assert site.ends == ["proxy_unavailable"] * 2
        monkeypatch.undo()
        await hear_connect(site, await site.client())


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(connections=2), Limits(per_client=2)])
async def test_so_many_clients_at_once(limits: Limits) -> None:
    async with proxied(limits=limits) as site:
        first, second = [await site.client() for _ in range(2)]
        await until(lambda: site.proxy.active == 2)
        with pytest.raises(ConnectionResetError):
            await (await site.client()).rest()
        assert site.ends == ["limit"]
        first.close()
        await until(lambda: site.proxy.active == 1)
        await hear_connect(site, await site.client())
        second.close()


async def test_so_many_of_one_user_and_no_others() -> None:
    async with proxied(user_limits=UserLimits(connections=1)) as site:
        first = await site.client()
        service = await hear_connect(site, first)
        refused = await site.client()
        await refused.send(b"\x05\x01\x00" + request5("127.0.0.1", site.port))
        assert (await refused.rest())[3] == 2
        refused = await site.client()
        await refused.send(f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n\r\n".encode())
        assert (await refused.rest()).startswith(b"HTTP/1.1 429 ")
        service.close()
        first.close()
        await until(lambda: "ok" in site.ends)
        await hear_connect(site, await site.client())


async def test_the_quota_is_given_back_however_a_connection_ends() -> None:
    async with proxied(user_limits=UserLimits(connections=1)) as site:
        for _ in range(2):
            client = await site.client()
            await client.send(b"GET http://127.0.0.2/ HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 403 ")
        for _ in range(2):
            client = await site.client()
            request = f"GET http://127.0.0.1:{site.port}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            await client.send(request)
            service = await site.accept()
            await service.until(b"\r\n\r\n")
            await service.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await client.until(b"\r\n\r\n")
            client.close()
            await until(lambda: not site.proxy.active)


async def test_what_does_not_move_for_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnelkit.egress.server.TICK", 0.01)
    async with proxied(limits=Limits(idle_timeout=0.2)) as site:
        client = await site.client()
        service = await hear_connect(site, client)
        for _ in range(front.IDLE_LOOKS * 2):  # longer than the time-out, but never silent for so long
            await service.send(b"!")
            await client.exactly(1)
            await asyncio.sleep(0.05)
        assert not site.ends
        await client.broken()
        assert site.ends == ["idle"]


# --- the end ------------------------------------------------------------------------------------


async def test_closing_lets_finish_what_runs_and_takes_no_more() -> None:
    async with proxied() as site:
        client = await site.client()
        service = await hear_connect(site, client)
        idle = await site.client()
        await until(lambda: site.proxy.active == 2)
        address = site.proxy.addresses[0]
        closing = asyncio.ensure_future(site.proxy.close(grace=10))
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            Wire(await dial(*address))
        await client.send(b"finish")
        assert await service.exactly(6) == b"finish"
        service.close()
        client.close()
        await closing
        assert sorted(site.ends) == ["ok", "proxy_closed"]


async def test_closing_without_grace_resets_what_runs() -> None:
    async with proxied() as site:
        client = await site.client()
        await hear_connect(site, client)
        waiting = await site.client()
        await waiting.send(f"GET http://127.0.0.1:{site.port}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await (await site.accept()).until(b"\r\n\r\n")
        await site.proxy.close()
        await client.broken()
        await waiting.broken()
        assert site.ends.count("proxy_closed") == 2
        await site.proxy.close()


def test_a_line_of_the_access_log() -> None:
    access = Access(("::1", 4), "socks5", 'a "user"', "example.com", 443)
    access.end = "ok"
    assert str(access) == (
        'client=[::1]:4 user="a \\"user\\"" protocol=socks5 to=example.com:443 from=- sent=0 received=0'
        " seconds=0.000 end=ok"
    )

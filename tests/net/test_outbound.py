"""The way to the relay, through proxies that the tests play."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tunnelkit.errors import InvalidError, OutboundProxyError
from tunnelkit.net.dial import DialError, Resolver
from tunnelkit.net.outbound import ProxyUrl, dial_relay, proxy_for

SECRET = "hunter2"

SOCKS_GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90"


# --- which proxy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", ProxyUrl("http", "proxy.example", 3128)),
        ("http://proxy.example", ProxyUrl("http", "proxy.example", 80)),
        ("proxy.example:3128/", ProxyUrl("http", "proxy.example", 3128)),
        ("HTTP://Proxy.Example", ProxyUrl("http", "proxy.example", 80)),
        ("socks5://[::1]", ProxyUrl("socks5", "::1", 1080)),
        ("socks5h://u:p%40ss@h:1", ProxyUrl("socks5h", "h", 1, "u", "p@ss")),
        (" http://u@h ", ProxyUrl("http", "h", 80, "u", None)),
    ],
)
def test_a_proxys_url_is_read(text: str, proxy: ProxyUrl) -> None:
    assert ProxyUrl.parse(text) == proxy


@pytest.mark.parametrize(
    "rest",
    [
        "https://u:hunter2@h",
        "socks4://u:hunter2@h",
        "ftp://u:hunter2@h",
        "http://u:hunter2@h:x",
        "http://u:hunter2@h:0",
        "http://u:hunter2@",
        "http://u:hunter2@[::1",
        "http://u:hunter2@h/x",
    ],
)
def test_what_is_no_proxy_is_refused_without_showing_it(rest: str) -> None:
    with pytest.raises(InvalidError, match="HTTPS_PROXY") as caught:
        proxy_for("wss", "relay.example", {"HTTPS_PROXY": rest})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_neither_text_nor_repr_hold_the_credentials() -> None:
    proxy = ProxyUrl.parse(f"http://user:{SECRET}@[::1]:3128")
    assert str(proxy) == "http://[::1]:3128"
    assert SECRET not in repr(proxy)
    assert "user" not in repr(proxy)


@pytest.mark.parametrize(
    ("scheme", "environ", "host"),
    [
        ("wss", {"HTTPS_PROXY": "a"}, "a"),
        ("https", {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, "a"),
        ("ws", {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, "b"),
        ("ws", {"HTTPS_PROXY": "a"}, None),
        ("wss", {"HTTP_PROXY": "b", "ALL_PROXY": "c"}, "c"),
        ("ssh", {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, "c"),
        ("wss", {"https_proxy": "a", "HTTPS_PROXY": "b"}, "a"),
        ("wss", {"https_proxy": "", "HTTPS_PROXY": "b"}, None),
        ("wss", {"all_proxy": "a"}, "a"),
        ("wss", {"HTTPS_PROXY": " "}, None),
        ("ws", {"HTTP_PROXY": "b", "REQUEST_METHOD": "GET"}, None),
        ("ws", {"http_proxy": "b", "REQUEST_METHOD": "GET"}, "b"),
        ("wss", {}, None),
    ],
)
def test_the_environment_chooses_the_proxy(scheme: str, environ, host: str | None) -> None:
    proxy = proxy_for(scheme, "relay.example", environ)
    assert (proxy and proxy.host) == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_never_behind_a_proxy(host: str) -> None:
    assert proxy_for("ws", host, {"ALL_PROXY": "http://p"}) is None


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("*", "relay.example"),
        ("relay.example", "relay.example"),
        ("example", "relay.example"),
        (".example", "relay.example"),
        ("*.example", "relay.example"),
        ("RELAY.Example.", "relay.EXAMPLE"),
        ("relay.example", "relay.example."),
        ("other, relay.example:443", "relay.example"),
        ("other relay.example", "relay.example"),
        ("192.0.2.0/24", "192.0.2.9"),
        ("192.0.2.9", "192.0.2.9"),
        ("192.0.2.9:443", "192.0.2.9"),
        ("2001:db8::/32", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
    ],
)
def test_no_proxy_covers(entries: str, host: str) -> None:
    assert proxy_for("wss", host, {"ALL_PROXY": "http://p", "NO_PROXY": entries}, port=443) is None


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("", "relay.example"),
        (",", "relay.example"),
        (".", "relay.example"),
        ("elay.example", "relay.example"),
        ("relay.example.com", "relay.example"),
        ("relay.example:80", "relay.example"),
        ("192.0.2.0/24", "192.0.3.1"),
        ("2.9", "192.0.2.9"),
        ("192.0.2.0/99", "192.0.2.9"),
        ("192.0.2.0/24", "relay.example"),
    ],
)
def test_no_proxy_does_not_cover(entries: str, host: str) -> None:
    environ = {"ALL_PROXY": "http://p", "NO_PROXY": entries}
    assert proxy_for("wss", host, environ, port=443) is not None


# --- dialling -----------------------------------------------------------------------------------


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    made = Resolver()
    yield made
    made.close()


class Proxy:
    """Answers each of the client's messages with the next of ``answers``, then echoes."""

    def __init__(self, scheme: str, port: int) -> None:
        self.url = ProxyUrl.parse(f"{scheme}://user:{SECRET}@127.0.0.1:{port}")
        self.heard: list[bytes] = []
        self.ended = asyncio.Event()


@asynccontextmanager
async def proxy(scheme: str, answers: Sequence[bytes], *, last: bool = False) -> AsyncIterator[Proxy]:
    """A proxy on 127.0.0.1; ``last``: it closes the connection behind its last answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for answer in answers:
                made.heard.append(await reader.read(4096))
                writer.write(answer)
            while not last and (data := await reader.read(4096)):
                writer.write(data)
        writer.close()
        made.ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Proxy(scheme, server.sockets[0].getsockname()[1])
    async with server:
        yield made
        async with asyncio.timeout(5):
            await made.ended.wait()


async def exchange(sock: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    return await loop.sock_recv(sock, 100)


async def test_without_a_proxy_it_is_a_plain_dial(resolver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        sock, rest = await dial_relay(host, port, proxy=None, resolver=resolver, timeout=5)
        with sock:
            assert sock.getpeername() == (host, port)
            assert rest == b""


async def test_without_a_proxy_a_failure_is_the_relays(resolver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
    with pytest.raises(DialError) as caught:
        await dial_relay(host, port, proxy=None, resolver=resolver, timeout=5)
    assert caught.value.kind == "refused"


async def test_through_an_http_proxy(resolver) -> None:
    answer = b"HTTP/1.1 200 Connection established\r\n\r\nand more"
    async with proxy("http", [answer]) as server:
        sock, rest = await dial_relay("relay.example", 443, proxy=server.url, resolver=resolver, timeout=5)
        with sock:
            assert rest == b"and more"
            assert await exchange(sock, b"hello") == b"hello"
    request = server.heard[0]
    assert request.startswith(b"CONNECT relay.example:443 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n" in request


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_through_a_socks_proxy_which_resolves_the_name(scheme: str, resolver) -> None:
    async with proxy(scheme, [b"\x05\x02", b"\x01\x00", SOCKS_GRANTED + b"and more"]) as server:
        sock, rest = await dial_relay("relay.example", 443, proxy=server.url, resolver=resolver, timeout=5)
        with sock:
            assert rest == b"and more"
            assert await exchange(sock, b"hello") == b"hello"
    assert server.heard[1:] == [b"\x01\x04user\x07hunter2", b"\x05\x01\x00\x03\x0drelay.example\x01\xbb"]


@pytest.mark.parametrize(
    ("scheme", "answers", "why"),
    [
        ("http", [b"HTTP/1.1 407 No\r\n\r\n"], "answered 407"),
        ("http", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], "answered 502 Bad Gateway"),
        ("http", [b"x" * 100_000], "over 8192 bytes"),
        ("http", [b"\x05\xff\r\n\r\n"], "does not answer CONNECT"),
        ("http", [b""], "closed the connection"),
        ("socks5", [b"\x05\x00", b"\x05\x05\x00"], "answered 5: connection refused"),
        ("socks5", [b"\x05\x02", b"\x01\x01"], "does not accept the user name"),
        ("socks5", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak SOCKS5"),
        ("socks5", [b"\x05\x00", b""], "closed the connection"),
    ],
)
async def test_what_the_proxy_says_is_told_with_its_address(
    scheme: str, answers: list[bytes], why: str, resolver
) -> None:
    async with proxy(scheme, answers, last=True) as server:
        with pytest.raises(OutboundProxyError, match=why) as caught:
            await dial_relay("r.example", 1, proxy=server.url, resolver=resolver, timeout=5)
    assert f"({server.url})" in caught.value.what
    assert SECRET not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_named(resolver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = ProxyUrl.parse(f"http://user:{SECRET}@127.0.0.1:{port}")
    with pytest.raises(OutboundProxyError, match=f"the proxy {url}: Connection refused") as caught:
        await dial_relay("relay.example", 1, proxy=url, resolver=resolver, timeout=5)
    assert SECRET not in str(caught.value)


@pytest.fixture
def silent() -> Iterator[ProxyUrl]:
    """A proxy that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield ProxyUrl("socks5", "127.0.0.1", listener.getsockname()[1])


async def test_a_proxy_that_says_nothing_is_given_up(silent, resolver) -> None:
    with pytest.raises(OutboundProxyError, match="did not answer in time"):
        await dial_relay("relay.example", 1, proxy=silent, resolver=resolver, timeout=0.05)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_cancelled_at_any_point_it_leaves_no_socket(silent, turns: int, resolver) -> None:
    dialling = asyncio.create_task(
        dial_relay("relay.example", 1, proxy=silent, resolver=resolver, timeout=60)
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):  # and the leak check looks for descriptors
        await dialling


async def test_a_relay_that_cannot_be_said_is_refused_before_the_proxy_is_dialled(resolver) -> None:
    url = ProxyUrl("socks5", "192.0.2.1", 1)
    with pytest.raises(InvalidError):
        await dial_relay("x" * 256, 1, proxy=url, resolver=resolver, timeout=5)

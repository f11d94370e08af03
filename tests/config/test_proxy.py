from __future__ import annotations

import pickle

import pytest

from tunnelkit import Proxy, Secret
from tunnelkit.config.home import shared_store
from tunnelkit.config.masked import Masked
from tunnelkit.config.names import check_values
from tunnelkit.config.proxy import Route, check_route
from tunnelkit.config.store import Kind, Ref, Write
from tunnelkit.errors import (
    AlreadyExistsError,
    InvalidError,
    InvalidNameError,
    NotFoundError,
    StoreDamagedError,
)

pytestmark = pytest.mark.usefixtures("home")

GATEWAY = "http://user:hunter2@gateway.example:3128"


def test_addresses() -> None:
    Proxy.objects.create("pinned", ip=["127.0.0.1", "::1"])
    proxy = Proxy.from_name("pinned")
    assert proxy.name == "pinned"
    assert proxy.route() == Route(ips=("127.0.0.1", "::1"))
    info = proxy.info()
    assert (info.name, info.kind, info.route) == ("pinned", "ip", "127.0.0.1, ::1")
    Proxy.objects.create("one", ip="127.0.0.2")
    assert Proxy.from_name("one").route().ips == ("127.0.0.2",)


def test_a_gateway_and_its_password() -> None:
    Proxy.objects.create("way", gateway=GATEWAY)
    proxy = Proxy.from_name("way")
    route = proxy.route()
    assert route.gateway.reveal() == GATEWAY
    info = proxy.info()
    assert (info.kind, info.route) == ("gateway", "http://user:***@gateway.example:3128")
    assert "hunter2" not in f"{proxy!r} {proxy} {route!r} {info!r}"


@pytest.mark.parametrize(
    ("gateway", "shown"),
    [
        ("http://h", "http://h"),
        ("socks5://h:1080", "socks5://h:1080"),
        ("socks5h://u@[::1]:1/", "socks5h://u@[::1]:1"),
        ("http://:hunter2@h:1", "http://:***@h:1"),
        ("http://u:hunter2@x@h:1", "http://u:***@h:1"),
        ("http://u:hunter2%40:x@h:1", "http://u:***@h:1"),
    ],
)
def test_gateways(gateway: str, shown: str) -> None:
    route = check_route(gateway=gateway)
    assert (route.kind, route.shown) == ("gateway", shown)


@pytest.mark.parametrize(
    "gateway",
    [
        "",
        "h:1",
        "https://u:hunter2@h",
        "ftp://u:hunter2@h",
        "http://u:hunter2@",
        "http://u:hunter2@h:0",
        "http://u:hunter2@h:x",
        "http://u:hunter2@h:99999",
        "http://u:hunter2@h/path",
        "http://h/?hunter2",
        "http://u:hunter2@[::1",
    ],
)
def test_what_is_no_gateway_is_not_shown(gateway: str) -> None:
    with pytest.raises(InvalidError, match="gateway") as raised:
        Proxy.objects.create("way", gateway=gateway)
    assert "hunter2" not in str(raised.value) + repr(raised.value.__context__)
    assert Proxy.objects.list() == []


@pytest.mark.parametrize(
    ("ips", "said"),
    [
        (["203.0.113.7"], "This machine does not have the address 203.0.113.7"),
        (["2001:db8::7"], "This machine does not have the address 2001:db8::7"),
        (["127.0.0.1", "203.0.113.7"], "does not have"),
        (["localhost"], "'localhost' is not an IP address"),
        (["127.0.0.1:80"], "is not an IP address"),
        (["0.0.0.0"], "address of no machine"),
        (["224.0.0.1"], "address of no machine"),
        (["127.0.0.1", "127.0.0.1"], "twice"),
        (["127.0.0.1"] * 65, "limit"),
        ([], "one of ip and gateway"),
    ],
)
def test_addresses_that_cannot_be(ips: list[str], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        Proxy.objects.create("p", ip=ips)
    assert Proxy.objects.list() == []


def test_one_of_the_two() -> None:
    with pytest.raises(InvalidError, match="one of ip and gateway"):
        check_route("127.0.0.1", GATEWAY)


def test_objects() -> None:
    Proxy.objects.create("a", ip="127.0.0.1")
    Secret.objects.create("a", {"A": "1"})
    with pytest.raises(AlreadyExistsError, match="proxy 'a'"):
        Proxy.objects.create("a", gateway=GATEWAY)
    Proxy.objects.create("a", gateway=GATEWAY, allow_existing=True)
    assert Proxy.from_name("a").route().ips == ("127.0.0.1",)
    assert [proxy.name for proxy in Proxy.objects.list()] == ["a"]
    Proxy.objects.delete("a")
    Proxy.objects.delete("a", allow_missing=True)
    with pytest.raises(NotFoundError, match="no proxy 'a'"):
        Proxy.from_name("a").info()
    assert Secret.from_name("a").reveal() == {"A": "1"}
    with pytest.raises(InvalidNameError):
        Proxy.from_name("a b")
    with pytest.raises(InvalidError, match=r"Proxy\.from_name"):
        Proxy()


def test_environments_and_pickles() -> None:
    shared_store().create_environment("prod")
    Proxy.objects.create("a", ip="127.0.0.1", environment_name="prod")
    proxy = Proxy.from_name("a", environment_name="prod")
    again = pickle.loads(pickle.dumps(proxy))
    assert again.route() == proxy.route()
    assert repr(again) == "Proxy.from_name('a', environment_name='prod')"
    with pytest.raises(NotFoundError):
        Proxy.from_name("a").route()


def test_a_stored_one_that_is_neither() -> None:
    shared_store().write(Ref(Kind.PROXY, "a", "main"), check_values({"X": "1"}), mode=Write.CREATE)
    with pytest.raises(StoreDamagedError):
        Proxy.from_name("a").route()


async def test_aio() -> None:
    await Proxy.objects.create.aio("a", gateway=GATEWAY)
    assert (await Proxy.from_name("a").route.aio()).gateway == Masked(GATEWAY)
    assert (await Proxy.from_name("a").info.aio()).kind == "gateway"
    assert len(await Proxy.objects.list.aio()) == 1
    await Proxy.objects.delete.aio("a")
    shared_store().close()

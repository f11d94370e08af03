"""What is allowed, resolved once, and leaves from a pinned address: on loopback, by our own name server."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.nameserver import NameServer
from tunnelkit.egress import dialer as module
from tunnelkit.egress.dialer import EgressDialer, Leg
from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.errors import (
    DestinationDeniedError,
    DestinationRefusedError,
    DestinationTimeoutError,
    DestinationUnreachableError,
    DestinationUnresolvedError,
    FamilyNotPinnedError,
    InvalidPortError,
    InvalidTargetError,
    ProxyError,
    ProxyUnavailable,
)
from tunnelkit.net import dial as net_dial
from tunnelkit.net.dial import dial_now
from tunnelkit.net.resolve import Address, Resolver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")

PIN = "127.0.0.2"
HERE = "allow 127.0.0.0/8"

Make = Callable[..., EgressDialer]


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
async def make(names: NameServer) -> Make:
    """Makes dialers that ask ``names`` and forget what it says at once."""

    def make(*rules: str, pins: list[str] | None = None, **more) -> EgressDialer:
        resolver = Resolver(lookup=names.lookup, timeout=5, cache=0)
        pool = PinPool([PIN] if pins is None else pins)
        return EgressDialer(policy=Policy.parse(rules or [HERE]), resolver=resolver, pins=pool, **more)

    return make


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on all of 127.0.0.0/8."""
    with socket.create_server(("0.0.0.0", 0), backlog=100) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener whose accept queue is full: connects to it stay under way."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        listener.settimeout(5)
        with socket.create_connection(listener.getsockname()):
            yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def seen_by(server: socket.socket, leg: Leg) -> str:
    """The address that the destination sees ``leg`` come from."""
    peer, address = server.accept()
    peer.close()
    leg.sock.close()
    assert address[0] == leg.source
    source: str = address[0]
    return source


# --- from the pinned address --------------------------------------------------------------------


async def test_a_numeric_destination_takes_no_wait(make: Make, server) -> None:
    leg = make().attempt("127.0.0.1", port_of(server)).now()
    assert leg is not None
    assert not leg.sock.getblocking()
    assert leg.address == Address(socket.AF_INET, ("127.0.0.1", port_of(server)))
    assert seen_by(server, leg) == PIN


async def test_a_name_is_resolved_and_then_known(make: Make, server, names: NameServer) -> None:
    names.answers["a.example"] = [["127.0.0.1"]]
    dialer = make()
    dialer.resolver = Resolver(lookup=names.lookup)
    attempt = dialer.attempt("A.Example.", port_of(server))
    assert attempt.now() is None
    assert seen_by(server, await attempt.wait()) == PIN
    leg = dialer.attempt("a.example", port_of(server)).now()
    assert leg is not None
    assert seen_by(server, leg) == PIN
    assert names.asked == {"a.example": 1}


async def test_ipv6_leaves_from_the_ipv6_pin(make: Make) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(5)
        dialer = make("allow ::1", pins=[PIN, "::1"])
        assert seen_by(listener, await dialer.dial("[::1]", port_of(listener))) == "::1"


async def test_mapped_ipv4_is_ipv4(make: Make, server) -> None:
    leg = await make().dial("::ffff:127.0.0.1", port_of(server))
    assert leg.address.family == socket.AF_INET
    assert seen_by(server, leg) == PIN


async def test_without_pins_the_system_chooses(names: NameServer, server) -> None:
    dialer = EgressDialer(policy=Policy.parse([HERE]), resolver=Resolver(lookup=names.lookup))
    assert seen_by(server, await dialer.dial("127.0.0.1", port_of(server))) == "127.0.0.1"


async def test_a_family_without_a_pin_is_refused(make: Make, names: NameServer) -> None:
    names.answers["six.example"] = [["::1"]]
    dialer = make("allow ::1")
    for host in ("::1", "six.example"):
        with pytest.raises(FamilyNotPinnedError, match="IPv6"):
            await dialer.dial(host, 80)
    with pytest.raises(FamilyNotPinnedError):
        await dialer.resolve("six.example", 80)


async def test_of_two_families_the_pinned_one_is_dialled(make: Make, names: NameServer, server) -> None:
    names.answers["both.example"] = [["::1", "127.0.0.1"]]
    leg = await make("allow ::1", HERE).dial("both.example", port_of(server))
    assert seen_by(server, leg) == PIN


async def test_client_and_destination_keep_their_address(make: Make, server) -> None:
    dialer = make(pins=[f"127.0.0.{n}" for n in range(2, 10)])
    used = {}
    for _ in range(2):
        for client in map(str, range(10)):
            leg = await dialer.dial("127.0.0.1", port_of(server), client=client)
            assert used.setdefault(client, seen_by(server, leg)) == leg.source
    assert len(set(used.values())) > 2


async def test_a_connection_from_anywhere_else_is_no_connection(make: Make, server, monkeypatch) -> None:
    monkeypatch.setattr(module, "dial_now", lambda address, **_: dial_now(address, source="127.0.0.3"))
    with pytest.raises(ProxyUnavailable, match=r"left from 127\.0\.0\.3"):
        make().attempt("127.0.0.1", port_of(server)).now()


# --- a pin that is gone -------------------------------------------------------------------------


async def test_a_pin_that_is_gone_is_no_other_and_comes_back(make: Make, server, gone: set[str]) -> None:
    dialer = make()
    gone.add(PIN)
    for _ in range(3):
        with pytest.raises(ProxyUnavailable, match=r"cannot leave from 127\.0\.0\.2") as caught:
            await dialer.dial("127.0.0.1", port_of(server))
        assert caught.value.code == "proxy_unavailable"
    gone.clear()
    assert seen_by(server, await dialer.dial("127.0.0.1", port_of(server))) == PIN


async def test_a_name_does_not_leave_from_elsewhere_either(make, server, names, gone: set[str]) -> None:
    names.answers["a.example"] = [["127.0.0.1", "127.0.0.9"]]
    gone.add(PIN)
    with pytest.raises(ProxyUnavailable):
        await make().dial("a.example", port_of(server))


async def test_the_others_of_a_pool_stand_in(make: Make, server, gone: set[str]) -> None:
    dialer = make(pins=["127.0.0.2", "127.0.0.3"])
    mine = seen_by(server, await dialer.dial("127.0.0.1", port_of(server), client="alice"))
    (other,) = {"127.0.0.2", "127.0.0.3"} - {mine}
    gone.add(mine)
    for _ in range(2):
        leg = await dialer.dial("127.0.0.1", port_of(server), client="alice")
        assert seen_by(server, leg) == other
    gone.add(other)
    with pytest.raises(ProxyUnavailable):
        await dialer.dial("127.0.0.1", port_of(server), client="alice")


async def test_pins_come_and_go_under_load(make: Make, server) -> None:
    dialer = make(pins=["127.0.0.2", "127.0.0.3"])
    kept = []
    for turn in range(60):
        if turn % 3 == 1:
            dialer.pins.add("127.0.0.4")
        if turn % 3 == 2:
            dialer.pins.remove("127.0.0.4")
        leg = await dialer.dial("127.0.0.1", port_of(server), client=str(turn))
        assert leg.source in {"127.0.0.2", "127.0.0.3", "127.0.0.4"}
        assert leg.source != "127.0.0.4" or turn % 3 == 1
        kept.append((leg.sock, server.accept()[0]))
    for ours, theirs in kept:  # none of them was lost
        ours.send(b"x")
        assert theirs.recv(1) == b"x"
        ours.close()
        theirs.close()


# --- what is allowed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
    ],
)
async def test_special_addresses_are_closed_by_default(make: Make, host: str) -> None:
    dialer = make("allow *", pins=["127.0.0.2", "::1"])
    with pytest.raises(DestinationDeniedError):
        dialer.attempt(host, 80).now()
    with pytest.raises(DestinationDeniedError):
        await dialer.resolve(host, 80)


@pytest.mark.parametrize(
    "host", ["0x7f.1", "017700000001", "2130706433", "127.1", "", "a..b", "fe80::1%lo", "*"]
)
async def test_what_is_no_host_is_not_dialled(make: Make, host: str) -> None:
    with pytest.raises(InvalidTargetError):
        make().attempt(host, 80).now()


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_what_is_no_port_is_not_dialled(make: Make, port: int) -> None:
    with pytest.raises(InvalidPortError):
        make().attempt("127.0.0.1", port).now()


async def test_a_name_that_is_denied_is_not_looked_up(make: Make, names: NameServer) -> None:
    with pytest.raises(DestinationDeniedError, match=r"deny \*\.example"):
        await make("deny *.example").dial("a.EXAMPLE.", 80)
    assert not names.asked


async def test_a_name_that_rebinds_is_judged_by_where_it_leads_now(make: Make, names, server) -> None:
    names.answers["a.example"] = [["127.0.0.5"], ["127.0.0.6"]]
    dialer = make("allow 127.0.0.5")
    leg = await dialer.dial("a.example", port_of(server))
    assert leg.address.sockaddr == ("127.0.0.5", port_of(server))
    assert names.asked["a.example"] == 1  # one for the decision and the connect
    assert seen_by(server, leg) == PIN
    with pytest.raises(DestinationDeniedError):
        await dialer.dial("a.example", port_of(server))
    assert names.asked["a.example"] == 2
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("address", ["127.0.0.6", "::ffff:127.0.0.6", "::ffff:0:127.0.0.6", "::1"])
async def test_a_public_name_that_leads_here_is_denied(make: Make, names, address: str) -> None:
    names.answers["a.example"] = [[address]]
    with pytest.raises(DestinationDeniedError, match="loopback"):
        await make("allow *.example", pins=[PIN, "::1"]).dial("a.example", 80)


async def test_of_several_addresses_those_that_are_allowed_are_dialled(make, names, server) -> None:
    names.answers["a.example"] = [["127.0.0.6", "127.0.0.5", "10.0.0.1"]]
    leg = await make("allow 127.0.0.5").dial("a.example", port_of(server))
    assert leg.address.sockaddr[0] == "127.0.0.5"
    assert seen_by(server, leg) == PIN


async def test_both_policies_have_to_allow_it(make: Make, server) -> None:
    dialer = make("deny 127.0.0.5", HERE)
    narrow = dialer.restricted(Policy.parse(["allow 127.0.0.5", "allow 127.0.0.6"]))
    assert seen_by(server, await narrow.dial("127.0.0.6", port_of(server))) == PIN
    for host in ("127.0.0.5", "127.0.0.7"):
        with pytest.raises(DestinationDeniedError):
            await narrow.dial(host, port_of(server))
    assert seen_by(server, await dialer.dial("127.0.0.7", port_of(server))) == PIN


# --- the proxy's own listeners ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listening", "host", "denied"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.3", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.3", True),
        ("::", "127.0.0.3", True),
        ("", "127.0.0.3", True),
        ("", "0.0.0.0", True),
    ],
)
async def test_the_proxys_own_listeners_are_never_dialled(make, server, listening, host, denied) -> None:
    dialer = make("allow 0.0.0.0/0")
    (await dialer.dial(host, port_of(server))).sock.close()  # known, and allowed so far
    dialer.add_listener(listening, port_of(server))
    for one in (dialer, dialer.restricted(Policy.parse(["allow 0.0.0.0/0"]))):
        if denied:
            with pytest.raises(DestinationDeniedError, match="this proxy itself"):
                await one.dial(host, port_of(server))
        else:
            (await one.dial(host, port_of(server))).sock.close()
    dialer.remove_listener(listening, port_of(server))
    (await dialer.dial(host, port_of(server))).sock.close()


async def test_other_machines_may_have_the_port_of_a_listener(make: Make) -> None:
    dialer = make("allow 192.0.2.0/24")
    dialer.add_listener("", 443)
    assert await dialer.resolve("192.0.2.1", 443) == Address(socket.AF_INET, ("192.0.2.1", 443))


# --- failures -----------------------------------------------------------------------------------


def refusing() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return port_of(listener)


async def test_a_refusal_is_told(make: Make, names: NameServer) -> None:
    names.answers["a.example"] = [["127.0.0.1"]]
    port = refusing()
    for host in ("127.0.0.1", "a.example"):
        with pytest.raises(DestinationRefusedError, match=f"{host}:{port}: Connection refused"):
            await make().dial(host, port)


async def test_no_way_is_told(make: Make) -> None:
    with pytest.raises(DestinationUnreachableError):
        await make("allow 255.255.255.255").dial("255.255.255.255", 80)


async def test_silence_is_told(make: Make, full) -> None:
    with pytest.raises(DestinationTimeoutError, match=r"no answer within 0\.05 s"):
        await make(connect_timeout=0.05).dial("127.0.0.1", port_of(full))


async def test_a_name_that_does_not_exist_is_told(make: Make) -> None:
    with pytest.raises(DestinationUnresolvedError, match="does not resolve"):
        await make().dial("missing.example", 80)
    with pytest.raises(DestinationUnresolvedError):
        await make().resolve("missing.example", 80)


async def test_a_name_server_that_is_silent_is_told(make: Make, names: NameServer) -> None:
    names.dead = {"dead.example"}
    with pytest.raises(DestinationUnresolvedError, match="no answer within"):
        await make(connect_timeout=0.05).dial("dead.example", 80)


async def test_fifty_dead_names_leave_a_good_one_quick(make: Make, names: NameServer, server) -> None:
    names.dead = {f"dead{n}.example" for n in range(50)}
    names.answers["good.example"] = [["127.0.0.1"]]
    dialer = make()
    dead = [asyncio.create_task(dialer.dial(name, 80, client="alice")) for name in names.dead]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        leg = await dialer.dial("good.example", port_of(server), client="alice")
    assert seen_by(server, leg) == PIN
    for task in dead:
        task.cancel()
    await asyncio.wait(dead)


# --- several addresses --------------------------------------------------------------------------


async def test_a_silent_address_is_joined_by_the_next(make, names, full, monkeypatch) -> None:
    monkeypatch.setattr(net_dial, "STAGGER", 0.02)
    with socket.create_server(("127.0.0.5", port_of(full))) as good:
        good.settimeout(5)
        names.answers["a.example"] = [["127.0.0.1", "127.0.0.5"]]
        leg = await make().dial("a.example", port_of(full))
        assert leg.address.sockaddr[0] == "127.0.0.5"
        assert seen_by(good, leg) == PIN


async def test_a_refusal_starts_the_next_at_once(make: Make, names: NameServer, monkeypatch) -> None:
    monkeypatch.setattr(net_dial, "STAGGER", 60)
    with socket.create_server(("127.0.0.5", 0)) as good:
        good.settimeout(5)
        names.answers["a.example"] = [["127.0.0.1", "127.0.0.4", "127.0.0.5"]]
        assert seen_by(good, await make().dial("a.example", port_of(good))) == PIN


async def test_the_connect_that_was_begun_is_the_one_that_is_finished(make: Make, full) -> None:
    attempt = make().attempt("127.0.0.1", port_of(full))
    assert attempt.now() is None
    full.accept()[0].close()  # room again: the next SYN, a second after the first, is answered
    leg = await attempt.wait()
    assert seen_by(full, leg) == PIN
    full.settimeout(0)
    with pytest.raises(BlockingIOError):
        full.accept()


# --- giving up ----------------------------------------------------------------------------------


async def test_an_attempt_that_nobody_waits_for_is_closed(make: Make, full) -> None:
    attempt = make().attempt("127.0.0.1", port_of(full))
    assert attempt.now() is None
    attempt.close()
    attempt.close()


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_point_it_leaves_no_socket(make, names, full, turns, monkeypatch) -> None:
    monkeypatch.setattr(net_dial, "STAGGER", 0)
    names.answers["a.example"] = [["127.0.0.1", "127.0.0.1", "127.0.0.5"]]
    dialer = make()
    dialer.resolver = Resolver(lookup=names.lookup)
    await dialer.resolve("a.example", port_of(full))
    with socket.create_server(("127.0.0.5", port_of(full)), backlog=0) as other:
        with socket.create_connection(other.getsockname()):
            attempt = dialer.attempt("a.example", port_of(full))
            assert attempt.now() is None
            waiting = asyncio.create_task(attempt.wait())
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):  # and the leak check looks for descriptors
                await waiting
            attempt.close()


# --- datagrams ----------------------------------------------------------------------------------


async def test_where_a_datagram_goes(make: Make, names: NameServer) -> None:
    names.answers["a.example"] = [["::1", "10.0.0.1", "127.0.0.5"]]
    dialer = make(HERE, "allow ::1")
    assert dialer.resolve_now("127.0.0.1", 53) == Address(socket.AF_INET, ("127.0.0.1", 53))
    assert dialer.resolve_now("a.example", 53) is None
    assert await dialer.resolve("a.example", 53) == Address(socket.AF_INET, ("127.0.0.5", 53))
    with pytest.raises(DestinationDeniedError):
        dialer.resolve_now("10.0.0.1", 53)


async def test_datagrams_leave_from_the_pin(make: Make, gone: set[str]) -> None:
    dialer = make()
    sock, source = dialer.bind_udp(socket.AF_INET, client="alice")
    with sock:
        assert sock.getsockname()[0] == source == PIN
    gone.add(PIN)
    with pytest.raises(ProxyUnavailable):
        dialer.bind_udp(socket.AF_INET)
    with pytest.raises(FamilyNotPinnedError):
        dialer.bind_udp(socket.AF_INET6)


async def test_without_pins_datagrams_leave_from_anywhere(names: NameServer) -> None:
    dialer = EgressDialer(policy=Policy(), resolver=Resolver(lookup=names.lookup))
    sock, source = dialer.bind_udp(socket.AF_INET6)
    with sock:
        assert source == ""
        assert sock.family == socket.AF_INET6


# --- verdicts that are kept ---------------------------------------------------------------------


async def test_verdicts_are_kept_within_a_limit(make: Make, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_JUDGED", 2)
    dialer = make("allow 192.0.2.0/24")
    for n in range(1, 5):
        await dialer.resolve(f"192.0.2.{n}", 80)
    assert list(dialer._judged) == [("192.0.2.3", 80), ("192.0.2.4", 80)]


def test_every_failure_to_dial_has_an_error() -> None:
    assert all(issubclass(kind, ProxyError) for kind in module._ERRORS.values())
    assert module._ERRORS.keys() == set(net_dial._TELLING)

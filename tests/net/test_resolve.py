"""Names to addresses, with a name server of the test's own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tunnelkit.net import resolve as module
from tunnelkit.net.dial import dial
from tunnelkit.net.resolve import Address, DialError, Resolver
from tunnelkit.wire.address import Endpoint

ANSWER = [Address(socket.AF_INET, ("192.0.2.1", 80))]


class NameServer:
    """Stands in for getaddrinfo(3): any name is 192.0.2.1, those in ``dead`` wait for ``release``."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.release = threading.Event()

    def getaddrinfo(self, host: str, port: object, **_: object) -> list[tuple[Any, ...]]:
        self.asked[host] += 1
        if host == "missing.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host in self.dead:
            assert self.release.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("resolve "):
            thread.join(5)


async def test_a_name_is_looked_up_once_and_then_known(names) -> None:
    resolver = Resolver()
    assert await resolver.resolve("a.example", 80) == ANSWER
    assert await resolver.resolve("a.example", 81) == [Address(socket.AF_INET, ("192.0.2.1", 81))]
    assert names.asked == {"a.example": 1}


async def test_an_answer_is_forgotten_in_time(names) -> None:
    resolver = Resolver(cache=0)
    await resolver.resolve("a.example", 80)
    await resolver.resolve("a.example", 80)
    assert names.asked == {"a.example": 2}


async def test_the_oldest_answer_makes_room(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    resolver = Resolver()
    for host in ["a.example", "b.example", "c.example", "b.example", "a.example"]:
        await resolver.resolve(host, 80)
    assert names.asked == {"a.example": 2, "b.example": 1, "c.example": 1}


async def test_those_who_ask_together_share_a_lookup(names) -> None:
    names.dead = {"a.example"}
    resolver = Resolver()
    asking = [asyncio.create_task(resolver.resolve("a.example", 80)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    names.release.set()
    assert await asking[1] == await asking[2] == ANSWER
    assert names.asked == {"a.example": 1}
    assert asking[0].cancelled()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%1", "localhost", "LOCALHOST."])
async def test_what_is_known_needs_no_thread(host, monkeypatch) -> None:
    monkeypatch.setattr(threading, "Thread", None)
    addresses = await Resolver().resolve(host, 80)
    assert all(address.sockaddr[1] == 80 for address in addresses)
    assert len(addresses) == (2 if host.lower().startswith("localhost") else 1)


async def test_a_name_that_does_not_exist_is_told_and_asked_again(names) -> None:
    resolver = Resolver()
    for _ in range(2):
        with pytest.raises(DialError, match="Name or service not known") as caught:
            await resolver.resolve("missing.example", 80)
        assert caught.value.kind == "unresolved"
    assert names.asked == {"missing.example": 2}


async def test_what_can_be_no_name_is_told() -> None:
    with pytest.raises(DialError, match="not a host name") as caught:
        await Resolver().resolve("a..example", 80)
    assert caught.value.kind == "unresolved"


async def test_an_unknown_zone_is_told() -> None:
    with pytest.raises(DialError) as caught:
        await Resolver().resolve("fe80::1%nowhere", 80)
    assert caught.value.kind == "unresolved"


async def test_a_dead_name_server_is_given_up(names) -> None:
    names.dead = {"dead.example"}
    with pytest.raises(DialError, match="no name server answered") as caught:
        await Resolver(timeout=0.05).resolve("dead.example", 80)
    assert caught.value.kind == "unresolved"


async def test_a_dial_that_ends_while_it_resolves_says_so(names) -> None:
    names.dead = {"dead.example"}
    with pytest.raises(DialError, match=r"dead\.example:80") as caught:
        await dial(Endpoint("dead.example", 80), resolver=Resolver(), timeout=0.05)
    assert caught.value.kind == "unresolved"


async def test_fifty_dead_names_leave_a_good_one_quick(names) -> None:
    names.dead = {f"dead{n}.example" for n in range(50)}
    resolver = Resolver()
    asking = [asyncio.create_task(resolver.resolve(host, 80)) for host in names.dead]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert await resolver.resolve("good.example", 80) == ANSWER
    names.release.set()
    await asyncio.gather(*asking)


async def test_lookups_beyond_the_limit_take_their_turn(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 1)
    names.dead = {"dead.example"}
    resolver = Resolver()
    asking = [asyncio.create_task(resolver.resolve(host, 80)) for host in ("dead.example", "next.example")]
    with pytest.raises(DialError):
        await Resolver(timeout=0.05).resolve("dead.example", 80)  # long enough for both to begin
    assert names.asked["next.example"] == 0
    names.release.set()
    assert await asyncio.gather(*asking) == [ANSWER, ANSWER]


@pytest.mark.parametrize("limit", ["MAX_WAITING", "MAX_WAITING_OF_CLIENT"])
async def test_too_many_names_at_once_fail_at_once(names, monkeypatch, limit) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 0)
    monkeypatch.setattr(module, limit, 1)
    resolver = Resolver()
    waiting = asyncio.create_task(resolver.resolve("a.example", 80))
    await asyncio.sleep(0)
    with pytest.raises(DialError, match="too many names") as caught:
        await resolver.resolve("b.example", 80)
    assert caught.value.kind == "unresolved"
    resolver.close()
    with pytest.raises(DialError, match="closed"):
        await waiting


async def test_closing_answers_those_who_wait_and_survives_late_answers(names) -> None:
    names.dead = {"dead.example"}
    resolver = Resolver()
    waiting = asyncio.create_task(resolver.resolve("dead.example", 80))
    await asyncio.sleep(0)
    resolver.close()
    with pytest.raises(DialError, match="closed"):
        await waiting
    names.release.set()
    assert await resolver.resolve("good.example", 80) == ANSWER


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_answer_that_comes_after_the_loop_is_dropped(names) -> None:
    names.dead = {"dead.example"}

    async def give_up() -> None:
        with pytest.raises(DialError):
            await Resolver(timeout=0.01).resolve("dead.example", 80)

    asyncio.run(give_up())
    names.release.set()
    threads = [t for t in threading.enumerate() if t.name == "resolve dead.example"]
    for thread in threads:
        thread.join(5)
    assert names.asked == {"dead.example": 1}
    assert not any(thread.is_alive() for thread in threads)


# --- clients ------------------------------------------------------------------------------------


def ask(resolver: Resolver, host: str, client: str) -> asyncio.Task[list[Address]]:
    return asyncio.create_task(resolver.resolve(host, 80, client=client))


async def settled(names: NameServer, lookups: int) -> None:
    """Once that many lookups have begun, and no more will by themselves."""
    async with asyncio.timeout(5):
        while names.asked.total() < lookups:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


async def test_a_client_has_as_many_lookups_as_are_left_to_others(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 8)
    names.dead = {f"dead{n}.example" for n in range(40)}
    resolver = Resolver()
    asking = [ask(resolver, f"dead{n}.example", "mallory") for n in range(20)]
    await settled(names, 4)
    assert names.asked.total() == 4
    asking += [ask(resolver, f"dead{n}.example", "trudy") for n in range(20, 40)]
    await settled(names, 6)
    assert names.asked.total() == 6
    async with asyncio.timeout(1):
        assert await resolver.resolve("good.example", 80, client="alice") == ANSWER
    names.release.set()
    assert await asyncio.gather(*asking) == [ANSWER] * 40


async def test_clients_take_turns(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 1)
    names.dead = {"first.example"}
    resolver = Resolver()
    first = ask(resolver, "first.example", "mallory")
    await settled(names, 1)
    done: list[str] = []
    waiting = []
    for host, client in [("m1", "mallory"), ("m2", "mallory"), ("m3", "mallory"), ("a1", "alice")]:
        waiting.append(ask(resolver, f"{host}.example", client))
        waiting[-1].add_done_callback(lambda _, host=host: done.append(host))
        await asyncio.sleep(0)
    names.release.set()
    await asyncio.gather(first, *waiting)
    assert done.index("a1") <= 1


async def test_a_name_that_waits_for_one_client_does_not_keep_another_waiting(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 2)
    names.dead = {"dead.example"}
    resolver = Resolver()
    asking = [ask(resolver, "dead.example", "mallory"), ask(resolver, "popular.example", "mallory")]
    await settled(names, 1)
    assert names.asked == {"dead.example": 1}
    async with asyncio.timeout(1):
        assert await resolver.resolve("popular.example", 80, client="alice") == ANSWER
    names.release.set()
    assert await asyncio.gather(*asking) == [ANSWER] * 2
    assert names.asked == {"dead.example": 1, "popular.example": 1}


async def test_what_nobody_waits_for_any_more_is_not_looked_up(names, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS", 1)
    names.dead = {"dead.example"}
    resolver = Resolver()
    dead = ask(resolver, "dead.example", "alice")
    given_up = [ask(resolver, "a.example", client) for client in ("alice", "bob")]
    last = ask(resolver, "b.example", "bob")
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    names.release.set()
    await asyncio.gather(dead, last)
    assert names.asked == {"dead.example": 1, "b.example": 1}
    assert not resolver._waiting
    assert not resolver._lookups
    assert not resolver._running


async def test_what_is_known_is_told_without_a_wait(names) -> None:
    resolver = Resolver()
    assert resolver.resolve_now("a.example", 80) is None
    await resolver.resolve("a.example", 80)
    assert resolver.resolve_now("a.example", 80) == ANSWER
    assert resolver.resolve_now("localhost", 80) is not None


async def test_a_lookup_of_ones_own_takes_the_place_of_the_systems() -> None:
    resolver = Resolver(lookup=lambda _: [(socket.AF_INET6, ("2001:db8::1", 0, 0, 0))])
    assert await resolver.resolve("a", 80) == [Address(socket.AF_INET6, ("2001:db8::1", 80, 0, 0))]


async def test_a_lookup_that_breaks_is_told_and_leaves_its_thread(monkeypatch) -> None:
    def broken(host: str) -> Any:
        raise LookupError("broken")

    monkeypatch.setattr(module, "MAX_LOOKUPS", 1)
    resolver = Resolver(lookup=broken)
    for _ in range(2):
        with pytest.raises(DialError, match="the lookup failed: broken"):
            await resolver.resolve("a.example", 80)

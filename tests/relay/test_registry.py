"""Who has which name and port, who may take it over, and for how long it is kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunnelkit.errors import NameTakenError, PortTakenError
from tunnelkit.relay.auth import Identity
from tunnelkit.relay.registry import MAX_RESERVED, RESERVATION, Away, Key, MemoryRegistry, RelayTunnel

NAME: Key = ("http", "app")
ALICE, BOB = Identity("alice"), Identity("bob")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> MemoryRegistry:
    return MemoryRegistry(clock)


def session(identity: Identity = ALICE, agent: str = "laptop", *, attached: bool = True) -> Any:
    return SimpleNamespace(identity=identity, agent=agent, attached=attached)


def tunnel(of: Any = None, key: Key = NAME) -> RelayTunnel:
    return RelayTunnel(key, 1, of or session())


async def test_what_is_claimed_is_found_until_it_is_removed(registry: MemoryRegistry) -> None:
    mine = tunnel()
    assert await registry.find(NAME) is None
    assert await registry.add(mine) is None
    assert await registry.find(NAME) is mine
    await registry.remove(mine, away=False)
    assert await registry.find(NAME) is None


async def test_names_and_ports_are_apart(registry: MemoryRegistry) -> None:
    web, tcp = tunnel(key=("http", "80")), tunnel(key=("tcp", 80))
    await registry.add(web)
    await registry.add(tcp)
    assert await registry.find(("http", "80")) is web
    assert await registry.find(("tcp", 80)) is tcp


@pytest.mark.parametrize(
    ("newcomer", "allowed"),
    [
        (session(), True),
        (session(agent="desktop"), False),
        (session(BOB), False),
        (session(BOB, "desktop"), False),
    ],
    ids=["same agent", "another agent", "another token", "a stranger"],
)
@pytest.mark.parametrize("key", [NAME, ("tcp", 7000)], ids=["name", "port"])
async def test_only_the_same_agent_takes_over_from_one_that_is_connected(
    registry: MemoryRegistry, key: Key, newcomer: Any, allowed: bool
) -> None:
    holder = tunnel(key=key)
    await registry.add(holder)
    if allowed:
        assert await registry.add(tunnel(newcomer, key)) is holder
    else:
        with pytest.raises(NameTakenError if key == NAME else PortTakenError, match="taken"):
            await registry.add(tunnel(newcomer, key))
        assert await registry.find(key) is holder


@pytest.mark.parametrize(
    ("newcomer", "allowed"), [(session(agent="desktop"), True), (session(BOB), False)], ids=["own", "foreign"]
)
async def test_any_agent_with_the_token_takes_over_from_one_that_is_away(
    registry: MemoryRegistry, newcomer: Any, allowed: bool
) -> None:
    holder = tunnel(session(attached=False))
    await registry.add(holder)
    if allowed:
        assert await registry.add(tunnel(newcomer)) is holder
    else:
        with pytest.raises(NameTakenError):
            await registry.add(tunnel(newcomer))


async def test_one_session_cannot_have_a_name_twice(registry: MemoryRegistry) -> None:
    mine = session()
    await registry.add(tunnel(mine))
    with pytest.raises(NameTakenError):
        await registry.add(tunnel(mine))


async def test_a_name_is_kept_for_its_token_for_a_minute(registry: MemoryRegistry, clock: Clock) -> None:
    mine = tunnel()
    await registry.add(mine)
    await registry.remove(mine, away=False)
    clock.now += RESERVATION - 0.001
    assert not await registry.available(NAME, session(BOB))
    assert await registry.available(NAME, session(ALICE))
    with pytest.raises(NameTakenError):
        await registry.add(tunnel(session(BOB)))
    clock.now += 0.001
    assert await registry.available(NAME, session(BOB))
    await registry.add(tunnel(session(BOB)))


async def test_its_own_token_takes_a_kept_name_back_at_once(registry: MemoryRegistry, clock: Clock) -> None:
    mine, again = tunnel(), tunnel(session(agent="desktop"))
    await registry.add(mine)
    await registry.remove(mine, away=True)
    assert await registry.add(again) is None
    assert await registry.find(NAME) is again
    clock.now += RESERVATION  # the reservation has gone with the claim
    with pytest.raises(NameTakenError):
        await registry.add(tunnel(session(BOB)))


async def test_an_agent_that_is_away_is_told_from_a_tunnel_that_was_closed(
    registry: MemoryRegistry, clock: Clock
) -> None:
    mine = tunnel()
    await registry.add(mine)
    await registry.remove(mine, away=True)
    assert await registry.find(NAME) == Away()
    clock.now += RESERVATION
    assert await registry.find(NAME) is None


async def test_a_tunnel_that_was_taken_over_gives_nothing_back(registry: MemoryRegistry) -> None:
    ghost, newer = tunnel(), tunnel()
    await registry.add(ghost)
    await registry.add(newer)
    await registry.remove(ghost, away=True)
    assert await registry.find(NAME) is newer


async def test_what_was_kept_does_not_pile_up(registry: MemoryRegistry, clock: Clock) -> None:
    for port in range(1, 1001):
        passing = tunnel(key=("tcp", port))
        await registry.add(passing)
        await registry.remove(passing, away=False)
        clock.now += 1
    assert len(registry._reserved) <= RESERVATION


async def test_nobody_keeps_names_by_the_thousand(registry: MemoryRegistry) -> None:
    for number in range(MAX_RESERVED + 5):
        one = tunnel(key=("http", f"name-{number}"))
        await registry.add(one)
        await registry.remove(one, away=False)
    kept = [
        n
        for n in range(MAX_RESERVED + 5)
        if not await registry.available(("http", f"name-{n}"), session(BOB))
    ]
    assert kept == list(range(5, MAX_RESERVED + 5))


async def test_without_tokens_only_the_same_agent_is_the_same_person(registry: MemoryRegistry) -> None:
    anybody = Identity("anybody", anonymous=True)
    mine = tunnel(session(anybody, "laptop", attached=False))
    await registry.add(mine)
    with pytest.raises(NameTakenError):
        await registry.add(tunnel(session(anybody, "stranger")))
    await registry.remove(mine, away=True)
    with pytest.raises(NameTakenError):
        await registry.add(tunnel(session(anybody, "stranger")))
    assert await registry.add(tunnel(session(anybody, "laptop"))) is None

"""Source addresses: which one is kept by whom, and what happens when one is gone."""

from __future__ import annotations

import logging
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.egress import pin as module
from tunnelkit.egress.pin import PinPool
from tunnelkit.errors import FamilyNotPinnedError, InvalidError, ProxyUnavailable


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


V4, V6 = socket.AF_INET, socket.AF_INET6
FOUR = [f"127.0.0.{n}" for n in range(2, 6)]
ABSENT = "192.0.2.1"


def first(pool: PinPool, client: str, destination: str = "www.example") -> str:
    return pool.candidates(V4, client, destination)[0]


# --- what can be pinned -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (" 127.0.0.1 ", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_is_kept_as_sockets_name_it(text: str, address: str) -> None:
    assert PinPool([text]).addresses == (address,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.1",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "169.254.1.1",
        "fe80::1",
        "fe80::1%lo",
        "127.0.0.1:80",
        "10.0.0.0/8",
        "x" * 999,
    ],
)
def test_what_nothing_can_leave_from_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        PinPool([text])
    assert len(caught.value.what) < 150


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(InvalidError):
        PinPool([])


# --- the check at the start ---------------------------------------------------------------------


def test_addresses_of_this_machine_are_good() -> None:
    pool = PinPool(["127.0.0.1", "::1"])
    pool.check()
    assert pool.status() == {"127.0.0.1": None, "::1": None}


def test_an_address_that_is_not_here_is_named_with_the_reason() -> None:
    pool = PinPool(["127.0.0.1", ABSENT])
    with pytest.raises(ProxyUnavailable, match=r"192\.0\.2\.1: Cannot assign requested address") as caught:
        pool.check()
    assert "127.0.0.1" not in caught.value.what
    assert caught.value.code == "proxy_unavailable"
    assert pool.status()[ABSENT] == "Cannot assign requested address"


# --- who keeps which ----------------------------------------------------------------------------


@given(st.text(), st.text())
def test_the_same_client_and_destination_keep_theirs(client: str, destination: str) -> None:
    pool = PinPool(FOUR)
    order = pool.candidates(V4, client, destination)
    assert order == pool.candidates(V4, client, destination)
    assert order == PinPool(reversed(FOUR)).candidates(V4, client, destination)
    assert sorted(order) == FOUR


def test_clients_and_destinations_spread_over_all() -> None:
    pool = PinPool(FOUR)
    by_client = Counter(first(pool, f"user{n}") for n in range(400))
    by_destination = Counter(first(pool, "user", f"{n}.example") for n in range(400))
    for used in (by_client, by_destination):
        assert set(used) == set(FOUR)
        assert min(used.values()) > 50


def test_where_a_client_ends_and_a_destination_begins_counts() -> None:
    pool = PinPool([f"127.0.1.{n}" for n in range(1, 100)])
    assert first(pool, "a", "bc") != first(pool, "ab", "c")


def test_removing_one_moves_only_those_who_had_it() -> None:
    pool = PinPool(FOUR)
    before = {client: first(pool, client) for client in map(str, range(200))}
    pool.remove(FOUR[1])
    for client, address in before.items():
        assert first(pool, client) != FOUR[1]
        if address != FOUR[1]:
            assert first(pool, client) == address
    pool.add(FOUR[1])
    assert {client: first(pool, client) for client in before} == before


def test_adding_one_moves_only_those_who_get_it() -> None:
    pool = PinPool(FOUR)
    before = {client: first(pool, client) for client in map(str, range(200))}
    pool.add("127.0.0.9")
    moved = {client for client in before if first(pool, client) != before[client]}
    assert moved
    assert {first(pool, client) for client in moved} == {"127.0.0.9"}


def test_families_are_apart() -> None:
    pool = PinPool(["127.0.0.1"])
    assert (pool.has(V4), pool.has(V6)) == (True, False)
    with pytest.raises(FamilyNotPinnedError, match="IPv6") as caught:
        pool.candidates(V6, "", "")
    assert caught.value.code == "family_not_pinned"
    pool.add("::1")
    assert pool.candidates(V6, "", "") == ["::1"]
    assert pool.candidates(V4, "", "") == ["127.0.0.1"]


# --- adding and removing ------------------------------------------------------------------------


def test_only_an_address_of_this_machine_is_added() -> None:
    pool = PinPool(["127.0.0.1"])
    with pytest.raises(ProxyUnavailable, match=ABSENT):
        pool.add(ABSENT)
    with pytest.raises(InvalidError):
        pool.add("0.0.0.0")
    assert pool.addresses == ("127.0.0.1",)


def test_what_is_added_twice_is_there_once() -> None:
    pool = PinPool(["127.0.0.1"])
    pool.add("::ffff:127.0.0.1")
    assert pool.addresses == ("127.0.0.1",)


def test_the_last_address_stays() -> None:
    pool = PinPool(["127.0.0.1", "127.0.0.2"])
    pool.remove("127.0.0.1")
    with pytest.raises(InvalidError, match="the last"):
        pool.remove("127.0.0.2")
    with pytest.raises(InvalidError, match="not one of"):
        pool.remove("127.0.0.1")


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_address_is_set_aside_and_comes_back(gone: set[str], caplog) -> None:
    clock = Clock()
    pool = PinPool(FOUR, clock=clock)
    mine = first(pool, "alice")
    gone.add(mine)
    with caplog.at_level(logging.WARNING, "tunnelkit"):
        pool.failed(mine)
        pool.failed(mine)
        order = pool.candidates(V4, "alice", "www.example")
        assert order[-1] == mine
        assert len(order) == 4
        clock.now += module.SET_ASIDE + 0.1  # now it is tried again
        assert first(pool, "alice") == mine
        pool.failed(mine)
        assert first(pool, "alice") != mine
        gone.clear()
        clock.now += module.SET_ASIDE + 0.1
        pool.worked(first(pool, "alice"))
    assert first(pool, "alice") == mine
    assert pool.status() == dict.fromkeys(FOUR)
    assert [record.message for record in caplog.records] == [
        f"cannot leave from {mine} for now: Cannot assign requested address",
        f"{mine} can be left from again",
    ]


def test_an_address_that_is_there_is_not_set_aside() -> None:
    pool = PinPool(FOUR)
    mine = first(pool, "alice")
    pool.failed(mine)  # no port was left for that destination, say
    assert first(pool, "alice") == mine


def test_what_has_been_removed_meanwhile_is_no_trouble() -> None:
    pool = PinPool(FOUR)
    pool.remove(FOUR[0])
    pool.failed(FOUR[0])
    pool.worked(FOUR[0])
    assert FOUR[0] not in pool.addresses


# --- datagrams ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "family"), [("127.0.0.2", V4), ("::1", V6)])
def test_a_datagram_socket_is_bound(address: str, family: socket.AddressFamily) -> None:
    sock, source = PinPool([address]).bind_udp(family, "alice")
    with sock:
        assert source == address
        assert sock.getsockname()[0] == address
        assert sock.getsockname()[1]
        assert not sock.getblocking()


def test_datagrams_pass_over_an_address_that_is_gone(gone: set[str]) -> None:
    pool = PinPool(FOUR)
    mine = pool.candidates(V4, "alice", "")[0]
    gone.add(mine)
    sock, source = pool.bind_udp(V4, "alice")
    with sock:
        assert source != mine
        assert sock.getsockname()[0] == source


def test_no_datagram_leaves_when_all_are_gone(gone: set[str]) -> None:
    pool = PinPool(["127.0.0.2", "127.0.0.3"])
    gone.update(pool.addresses)
    with pytest.raises(ProxyUnavailable, match=r"127\.0\.0\.2: .*; 127\.0\.0\.3: |127\.0\.0\.3: .*; "):
        pool.bind_udp(V4, "alice")
    gone.clear()
    pool.bind_udp(V4, "alice")[0].close()
    with pytest.raises(FamilyNotPinnedError):
        pool.bind_udp(V6, "alice")

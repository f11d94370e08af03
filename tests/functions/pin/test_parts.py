from __future__ import annotations

import socket

import pytest

from tunnelkit import App
from tunnelkit.errors import InvalidError, ProxyUnavailable
from tunnelkit.functions.pin.choose import choose
from tunnelkit.functions.pin.datagrams import ancillary
from tunnelkit.functions.pin.kernel import NUMBERS
from tunnelkit.functions.pin.pins import Address, Pins
from tunnelkit.functions.pin.proof import Observer, prove
from tunnelkit.functions.pin.seccomp import Program

PINS = Pins.of(("203.0.113.7", "2001:db8::7", "203.0.113.8"))


def run(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the filter says, by the rules of the kernel's interpreter."""
    known = NUMBERS[machine]
    data = number.to_bytes(4, "little") + (arch or known.arch).to_bytes(4, "little") + bytes(8)
    data += b"".join(value.to_bytes(8, "little") for value in (*arguments, *(0,) * (6 - len(arguments))))
    code = Program(known).assembled()
    at = accumulator = 0
    while True:
        step = code[at * 8 : at * 8 + 8]
        what, yes, no, value = step[0], step[2], step[3], int.from_bytes(step[4:], "little")
        at += 1
        if what == 0x20:
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif what == 0x54:
            accumulator &= value
        elif what == 0x15:
            at += yes if accumulator == value else no
        elif what == 0x35:
            at += yes if accumulator >= value else no
        else:
            assert what == 0x06
            return value


ASK, ALLOW, KILL = 0x7FC00000, 0x7FFF0000, 0x80000000


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter_asks_about_what_has_an_address(machine: str) -> None:
    known = NUMBERS[machine]
    for number in (known.connect, known.bind, known.listen, known.sendmsg, known.sendmmsg):
        assert run(machine, number) == ASK
    assert run(machine, known.sendto) == ALLOW
    assert run(machine, known.sendto, 0, 0, 0, 0, 1 << 40) == ASK
    assert run(machine, known.sendto, 0, 0, 0, 0, 16) == ASK
    assert run(machine, 0) == ALLOW
    assert run(machine, known.connect, arch=0x40000003) == KILL
    assert run(machine, 425) == 0x50000 | 38
    if known.x32:
        assert run(machine, 0x40000000 + known.connect) == 0x50000 | 38


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter_allows_sockets_that_can_be_pinned(machine: str) -> None:
    number = NUMBERS[machine].socket
    for allowed in ((1, 5), (16, 3), (2, 1), (10, 2), (2, 0o2000001, 6), (10, 0o4002, 17)):
        assert run(machine, number, *allowed) == ALLOW
    for refused in ((17, 3), (40, 1), (2, 3, 1), (2, 5), (2, 1, 132), (2, 1, 262), (10, 3, 58)):
        assert run(machine, number, *refused) & 0xFFFF0000 == 0x50000


@pytest.mark.parametrize(
    ("wanted", "stream", "only6", "bound"),
    [
        ("0.0.0.0", True, False, "127.0.0.1"),
        ("0.0.0.0", False, False, "203.0.113.7"),
        ("::", True, False, "::ffff:127.0.0.1"),
        ("::", True, True, "::1"),
        ("::", False, True, "2001:db8::7"),
        ("127.0.0.9", True, False, "127.0.0.9"),
        ("203.0.113.7", True, False, "203.0.113.7"),
        ("203.0.113.8", True, False, None),
        ("::ffff:203.0.113.8", False, False, None),
        ("2001:db8::8", False, False, None),
    ],
)
def test_where_a_socket_is_bound(wanted: str, stream: bool, only6: bool, bound: str | None) -> None:
    family = socket.AF_INET6 if ":" in wanted else socket.AF_INET
    head = family.to_bytes(2, "little") + (80).to_bytes(2)
    host = socket.inet_pton(family, wanted)
    data = head + host + bytes(8) if len(host) == 4 else head + bytes(4) + host + bytes(4)
    address = Address.read(data)
    assert address is not None
    assert address.packed() == data
    result = PINS.binding(address, stream=stream, only6=only6)
    assert (result and result.text()[:2]) == (bound and (bound, 80))


def test_ancillary_data_is_taken_apart_or_refused() -> None:
    one = (17).to_bytes(8, "little") + bytes(4) + (8).to_bytes(4, "little") + b"x" + bytes(7)
    assert ancillary(one + one) == [(0, 8, b"x")] * 2
    for broken in ((15).to_bytes(8, "little") + one[8:], (99).to_bytes(8, "little") + one[8:]):
        with pytest.raises(OSError, match="Invalid argument"):
            ancillary(broken)


def test_a_process_that_is_not_pinned_is_found_out() -> None:
    pins = Pins.of(("127.0.0.2",))
    observer = Observer(pins)
    try:
        with pytest.raises(ProxyUnavailable):
            prove(pins, observer.addresses, observer.nonce)
        with socket.create_connection(observer.addresses[0]) as stranger:
            stranger.sendall(bytes(16))
            with pytest.raises(ProxyUnavailable, match=r"127\.0\.0\.2 was seen from nowhere"):
                observer.check()
    finally:
        observer.close()


def test_ways_that_there_are_not() -> None:
    class Gateway:
        ips = ()
        gateway = "http://proxy.example.com"

    with pytest.raises(ProxyUnavailable, match="gateway"):
        choose(Gateway())
    with pytest.raises(InvalidError, match="egress='magic'"):
        App().function(egress="magic")
    with pytest.raises(InvalidError, match="Not a proxy"):
        App().function(proxy="partner")

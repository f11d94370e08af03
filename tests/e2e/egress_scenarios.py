"""What :mod:`tests.e2e.test_egress_dialer` runs in a network namespace: one scenario, by name.

The namespace has a loopback interface and nothing else, and /etc/resolv.conf names 127.0.0.1. Only
here can addresses come and go, ports run out, and the system's resolver be led astray.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.nameserver import NameServer
from tunnelkit.egress.dialer import EgressDialer
from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.errors import DestinationDeniedError, ProxyUnavailable
from tunnelkit.net.resolve import Resolver

PIN, OTHER, SERVER = "198.51.100.1", "198.51.100.2", "198.51.100.9"
PIN6, OTHER6, SERVER6 = "2001:db8::1", "2001:db8::2", "2001:db8::9"


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def set_up() -> None:
    ip("link set lo up")
    for address in (PIN, OTHER, SERVER):
        ip(f"address add {address}/32 dev lo")
    for address in (PIN6, OTHER6, SERVER6):
        ip(f"address add {address}/128 dev lo nodad")


def make(*pins: str, **resolver: float) -> EgressDialer:
    policy = Policy.parse(["allow 198.51.100.0/24", "allow 2001:db8::/32"])
    return EgressDialer(policy=policy, resolver=Resolver(**resolver), pins=PinPool(pins))


async def comes_from(dialer: EgressDialer, listener: socket.socket, host: str) -> str:
    """The address that ``listener`` sees a connection to ``host`` come from."""
    leg = await dialer.dial(host, listener.getsockname()[1])
    peer, address = listener.accept()
    peer.close()
    leg.sock.close()
    seen: str = address[0]
    return seen


async def fails(dialer: EgressDialer, listener: socket.socket, host: str) -> ProxyUnavailable:
    """The error of a connection to ``host``, of which ``listener`` sees nothing."""
    with pytest.raises(ProxyUnavailable) as caught:
        await dialer.dial(host, listener.getsockname()[1])
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.setblocking(True)
    return caught.value


async def a_pin_goes_and_comes_back() -> None:
    for pin, server, family in ((PIN, SERVER, socket.AF_INET), (PIN6, SERVER6, socket.AF_INET6)):
        dialer = make(pin)
        size = 32 if family == socket.AF_INET else 128
        with socket.create_server((server, 0), family=family) as listener:
            assert await comes_from(dialer, listener, server) == pin
            open_leg = await dialer.dial(server, listener.getsockname()[1])
            peer, _ = listener.accept()
            datagrams, _ = dialer.bind_udp(family)

            ip(f"address del {pin}/{size} dev lo")
            assert (await fails(dialer, listener, server)).code == "proxy_unavailable"
            with pytest.raises(ProxyUnavailable):
                dialer.bind_udp(family)
            with socket.socket(family, socket.SOCK_DGRAM) as sink:  # no datagram from elsewhere, either
                sink.bind((server, 0))
                sink.settimeout(0.1)
                try:
                    datagrams.sendto(b"x", sink.getsockname())
                    assert sink.recvfrom(1)[1][0] == pin
                except OSError:
                    pass

            ip(f"address add {pin}/{size} dev lo" + (" nodad" if ":" in pin else ""))
            assert await comes_from(dialer, listener, server) == pin
            open_leg.sock.send(b"x")  # and what was there is there still
            assert peer.recv(1) == b"x"


async def a_pool_does_without() -> None:
    dialer = make(PIN, OTHER)
    with socket.create_server((SERVER, 0)) as listener:
        first = await comes_from(dialer, listener, SERVER)
        second = {PIN: OTHER, OTHER: PIN}[first]
        ip(f"address del {first}/32 dev lo")
        assert await comes_from(dialer, listener, SERVER) == second
        assert dialer.pins is not None
        assert dialer.pins.status()[first]
        ip(f"address del {second}/32 dev lo")
        await fails(dialer, listener, SERVER)
        ip(f"address add {second}/32 dev lo")
        assert await comes_from(dialer, listener, SERVER) == second


async def ports_run_out() -> None:
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
    with socket.create_server((SERVER, 50000)) as one, socket.create_server((SERVER, 50001)) as two:
        dialer = make(PIN)
        kept = [await dialer.dial(SERVER, 50000) for _ in range(4)]
        for _ in kept:
            one.accept()[0].close()
        assert "cannot leave from" in (await fails(dialer, one, SERVER)).what
        assert await comes_from(dialer, two, SERVER) == PIN  # other destinations have ports of their own
        assert dialer.pins is not None
        assert dialer.pins.status() == {PIN: None}  # the address itself is fine
        dialer.pins.add(OTHER)
        kept.append(await dialer.dial(SERVER, 50000))
        assert kept[-1].source == OTHER
        for leg in kept:
            leg.sock.close()


async def the_machines_addresses_are_the_proxys_own() -> None:
    dialer = make(PIN, PIN6)
    dialer.add_listener("", 443)
    for host in (SERVER, SERVER6, PIN, OTHER6):
        with pytest.raises(DestinationDeniedError, match="this proxy itself"):
            dialer.resolve_now(host, 443)
    assert dialer.resolve_now("198.51.100.77", 443) is not None
    assert dialer.resolve_now("2001:db8::77", 443) is not None


async def a_name_rebinds() -> None:
    names = NameServer(port=53)
    names.answers["a.example"] = [[SERVER], ["127.0.0.1"], [SERVER, "127.0.0.1", "::1"]]
    dialer = make(PIN, PIN6, cache=0)
    try:
        with socket.create_server((SERVER, 0)) as listener:
            assert await comes_from(dialer, listener, "A.example.") == PIN
            assert names.asked["a.example"] == 1  # one lookup, and no second at the connect
            with pytest.raises(DestinationDeniedError, match="loopback"):
                await dialer.dial("a.example", listener.getsockname()[1])
            assert names.asked["a.example"] == 2
            assert await comes_from(dialer, listener, "a.example") == PIN
    finally:
        names.close()


async def dead_names() -> None:
    names = NameServer(port=53)
    names.dead = {f"dead{n}.example" for n in range(50)}
    names.answers["good.example"] = [[SERVER]]
    dialer = make(PIN)
    with socket.create_server((SERVER, 0)) as listener:
        dead = [asyncio.create_task(dialer.dial(name, 80, client="alice")) for name in names.dead]
        while len(names.asked) < 50:
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        assert await comes_from(dialer, listener, "good.example") == PIN
        assert time.monotonic() - begun < 1
    for task in dead:
        task.cancel()
    names.stop()


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        a_pin_goes_and_comes_back,
        a_pool_does_without,
        ports_run_out,
        the_machines_addresses_are_the_proxys_own,
        a_name_rebinds,
        dead_names,
    )
}


def main() -> None:
    """Run the scenario that is named on the command line."""
    set_up()
    asyncio.run(SCENARIOS[sys.argv[1]]())


if __name__ == "__main__":
    main()

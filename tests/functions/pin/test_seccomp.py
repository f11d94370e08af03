"""Functions in a network namespace with two addresses of each family: all leave from the pin."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions.pin.network import OTHER, PIN, PIN6, Network
from tests.support.programs import program

pytestmark = [
    pytest.mark.needs("ip", "setpriv"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are for root"),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("git"))
    try:
        network.open()
        yield network
    finally:
        network.close()


@pytest.fixture(params=["root", "nobody"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(network: Network, user: str, scenario: str, *arguments: str) -> Any:
    return json.loads(network.run(user, scenario, *arguments).splitlines()[-1])


def test_clients_leave_from_the_pin_of_each_family(network: Network, user: str) -> None:
    assert run(network, user, "leaving") == {
        "tcp": PIN,
        "tcp6": PIN6,
        "blocking": PIN,
        "mapped": PIN,
        "asyncio": PIN,
        "urllib": PIN,
        "bound to the pin": PIN,
        "bound to another": "EADDRNOTAVAIL",
        "udp": f"?{PIN}",
        "udp6": f"?{PIN6}",
        "udp, bound to any": f"?{PIN}",
        "udp, bound to another": "EADDRNOTAVAIL",
        "pktinfo": f"!?{PIN}",
        "pktinfo of another": "EADDRNOTAVAIL",
    }


@pytest.mark.needs("curl")
def test_programs_and_their_children_leave_from_it_too(network: Network, user: str) -> None:
    assert run(network, user, "programs") == {"curl": PIN, "shell": PIN, "python": PIN, "six": ""}


def test_loopback_stays_reachable_and_tunnels_work(network: Network, user: str) -> None:
    assert run(network, user, "at_home") == {
        "any": ["127.0.0.1", "127.0.0.1"],
        "any6": ["::ffff:127.0.0.1", "127.0.0.1"],
        "own6": ["::1", "::1"],
        "tunnel": "hello",
    }


def test_what_cannot_be_pinned_is_refused(network: Network, user: str) -> None:
    assert run(network, user, "refused") == {
        "io_uring": "ENOSYS",
        "raw": "EPERM",
        "packet": "EAFNOSUPPORT",
        "sctp": "EPROTONOSUPPORT",
        "six": "ENETUNREACH",
    }


def test_the_function_ends_with_its_supervisor(network: Network, user: str) -> None:
    assert run(network, user, "orphan")["code"] == "remote"


def test_an_address_of_another_machine_runs_nothing(network: Network, user: str) -> None:
    assert run(network, user, "nowhere") == {
        "code": "proxy_unavailable",
        "what": "Cannot leave from 203.0.113.99: Cannot assign requested address",
    }


def test_a_proxy_with_another_address_gets_another_process(network: Network, user: str) -> None:
    first, second, third = run(network, user, "changed")
    assert (first[1], second[1]) == (PIN, OTHER)
    assert first[0] != second[0]
    assert second == third


STATIC = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    char data[1000] = "GET / HTTP/1.0\r\n\r\n";
    int fd = socket(AF_INET, SOCK_STREAM, 0), size, n = 0;
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    if (connect(fd, (void *)&to, sizeof to) || write(fd, data, 18) != 18) return perror("connect"), 1;
    while ((size = read(fd, data + n, sizeof data - 1 - n)) > 0) n += size;
    data[n] = 0;
    return puts(data), 0;
}
"""


@pytest.mark.needs("gcc")
def test_a_program_without_shared_libraries_leaves_from_it(network: Network, user: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are for their owner alone
        Path(directory).chmod(0o755)
        source, binary = Path(directory, "client.c"), Path(directory, "client")
        source.write_text(STATIC)
        subprocess.run([program("gcc"), "-static", "-o", binary, source], check=True, timeout=30)
        assert run(network, user, "static", str(binary)).splitlines()[-1] == PIN

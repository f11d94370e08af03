"""Peers are in front of the service when their ``start`` returns: the first visitor is served."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from benchmarks import processes, services
from benchmarks.model import PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.peers import PEERS, bore
from benchmarks.processes import Launcher, free_address

STAND_IN = Path(__file__).with_name("stand_in.py")
STANDS_IN_FOR = "bore chisel frpc frps piko rathole sish ssh wstunnel".split()

NOT_FROM_DEBIAN = [name for name, peer in PEERS.items() if {*peer.programs} & {*STANDS_IN_FOR} - {"ssh"}]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STANDS_IN_FOR:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
        path.chmod(0o755)
    monkeypatch.setattr(bore, "CONTROL", control := free_address())
    monkeypatch.setenv("STAND_IN_CONTROL", str(control.port))
    monkeypatch.setattr(processes, "SEARCH_PATH", f"{tmp_path}:{processes.SEARCH_PATH}")


def echoed(address: Address) -> bool:
    """Whether the first visitor has its bytes sent back."""
    with socket.create_connection(address, 10) as visitor:
        visitor.sendall(b"64 bytes")
        return visitor.recv(100) == b"64 bytes"


def asked(address: Address) -> bytes:
    """The answer to the first request."""
    with socket.create_connection(address, 10) as visitor:
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: {PUBLIC_NAME}\r\nConnection: close\r\n\r\n".encode())
        with visitor.makefile("rb") as answer:
            return answer.read()


def serves_tcp(peer: Peer) -> bool:
    with Launcher() as service, Launcher() as launched:
        return echoed(peer.start(launched, Mode.TCP, services.echo(service)))


def serves_http(peer: Peer) -> bool:
    with Launcher() as service, Launcher() as launched:
        return services.BODY.encode() in asked(peer.start(launched, Mode.HTTP, services.http(service)))


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", [name for name in NOT_FROM_DEBIAN if Mode.TCP in PEERS[name].modes])
def test_the_first_visitor_is_served(name: str) -> None:
    assert serves_tcp(PEERS[name])


@pytest.mark.needs("nginx")
@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", [name for name in NOT_FROM_DEBIAN if Mode.HTTP in PEERS[name].modes])
def test_the_first_request_is_answered(name: str) -> None:
    assert serves_http(PEERS[name])


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", [name for name in NOT_FROM_DEBIAN if PEERS[name].reconnects])
def test_the_relay_can_be_killed_and_started_again(name: str) -> None:
    with Launcher() as service, Launcher() as launched:
        PEERS[name].start(launched, Mode.TCP, services.echo(service))
        assert launched.server is not None
        before = launched.pids()
        launched.server.kill()
        assert len(launched.pids()) < len(before)
        launched.server.start_again()


@pytest.mark.needs("haproxy")
def test_haproxy() -> None:
    assert serves_tcp(PEERS["haproxy"])


@pytest.mark.needs("socat")
def test_socat() -> None:
    assert serves_tcp(PEERS["socat"])


@pytest.mark.needs("nginx")
def test_nginx() -> None:
    assert serves_http(PEERS["nginx"])


@pytest.mark.needs("stunnel4", "openssl")
def test_stunnel() -> None:
    assert serves_tcp(PEERS["stunnel"])


@pytest.mark.needs("ssh", "sshd")
def test_ssh() -> None:
    assert serves_tcp(PEERS["ssh-R"])


def test_ours_and_none() -> None:
    assert serves_tcp(PEERS["tunnelkit"])
    assert serves_tcp(PEERS["direct"])


def test_every_peer_says_what_it_is() -> None:
    for name, peer in PEERS.items():
        assert name == peer.name
        assert peer.about
        assert isinstance(peer.security, Security)
        assert (peer.hops > 0) == (peer.name != "direct")


def test_stand_ins_are_for_programs_of_peers() -> None:
    programs = {program for peer in PEERS.values() for program in peer.programs}
    assert set(STANDS_IN_FOR) <= programs

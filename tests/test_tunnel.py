from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunnelkit
from tests.support import free_port
from tests.support.engines import ROOT, accepts, eventually, fetch, forget_settings, hello_server
from tunnelkit import Forwarding, Relay, Tunnel, forward
from tunnelkit.engine.program import engine_pid
from tunnelkit.errors import (
    AuthError,
    AuthMissingError,
    InvalidError,
    InvalidNameError,
    InvalidPortError,
    InvalidTargetError,
    PortNotAllowedError,
    RelayUnreachableError,
    ReplacedError,
    TunnelTimeoutError,
)

pytestmark = pytest.mark.keeps_descriptors  # the engine serves the whole test run


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch, tmp_path)


@pytest.fixture
def service() -> Iterator[int]:
    with hello_server() as port:
        yield port


# --- Tunnel.create ------------------------------------------------------------------------------


def test_a_tunnel_is_up_when_create_returns(service: int) -> None:
    tunnel = Tunnel.create(host="127.0.0.1", port=service)
    assert tunnel.url == f"http://127.0.0.1:{tunnel.port}"
    assert fetch(f"{tunnel.url}/path") == b"hello from /path"
    assert not tunnel.closed
    tunnel.close()
    assert tunnel.closed
    assert tunnel.error is None
    assert eventually(lambda: not accepts(tunnel.host, tunnel.port))
    tunnel.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_service_may_start_later(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    with Tunnel.create(host=host, port=port, protocol="tcp") as tunnel:
        with socket.create_server(("127.0.0.1", port)) as server:
            with socket.create_connection(tunnel.tcp_socket):
                server.settimeout(10)
                server.accept()[0].close()


async def test_create_works_inside_a_running_loop(service: int) -> None:
    with Tunnel.create(port=service) as tunnel:
        assert await asyncio.to_thread(fetch, tunnel.url) == b"hello from /"
    assert tunnel.closed


async def test_the_coroutine_leaves_the_loop_running(service: int) -> None:
    async with await Tunnel.create.aio(port=service) as tunnel:
        assert await asyncio.to_thread(fetch, tunnel.url) == b"hello from /"
    assert tunnel.closed


async def test_a_cancelled_coroutine_closes_what_comes_up() -> None:
    """At a relay that never answers, so that there is a time to be cancelled in."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        task = asyncio.ensure_future(Tunnel.create.aio(relay=url))
        silent.setblocking(False)
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with connection:
            connection.setblocking(False)
            while await asyncio.get_running_loop().sock_recv(connection, 65_536):
                pass


def test_create_serves_several_threads_with_one_engine(service: int) -> None:
    made: list[tuple[Tunnel, int | None]] = []

    def create() -> None:
        tunnel = Tunnel.create(port=service)
        made.append((tunnel, engine_pid()))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tunnel.url for tunnel, _ in made}) == 8
    assert len({pid for _, pid in made}) == 1
    for tunnel, _ in made:
        assert fetch(tunnel.url) == b"hello from /"
        tunnel.close()


def test_a_tunnel_is_a_frozen_value(service: int) -> None:
    with Tunnel.create(port=service) as tunnel:
        with pytest.raises(dataclasses.FrozenInstanceError):
            tunnel.url = "http://elsewhere"  # type: ignore[misc]
        copy = pickle.loads(pickle.dumps(tunnel))
        assert copy == tunnel
        copy.close()
        assert fetch(tunnel.url) == b"hello from /"
        assert (tunnel.unencrypted_host, tunnel.unencrypted_port) == (tunnel.host, tunnel.port)
        assert tunnel.tcp_socket == (tunnel.host, tunnel.port)
        with pytest.raises(InvalidError, match="no TLS"):
            _ = tunnel.tls_socket


def test_where_there_is_only_tls_the_other_socket_says_so() -> None:
    tunnel = Tunnel("https://app.example", "app.example", 443)
    assert tunnel.tls_socket == ("app.example", 443)
    with pytest.raises(InvalidError, match="only TLS"):
        _ = tunnel.tcp_socket


def test_the_signature_is_that_of_the_description() -> None:
    parameters = inspect.signature(Tunnel.create).parameters
    assert list(parameters)[:3] == ["host", "port", "timeout"]
    assert (parameters["host"].default, parameters["port"].default) == ("0.0.0.0", 8000)
    assert list(inspect.signature(forward).parameters)[:2] == ["port", "host"]
    assert "service" in str(Tunnel.create.__doc__)


# --- forward ------------------------------------------------------------------------------------


def test_forward_returns_an_address_that_is_a_str(service: int) -> None:
    address = forward(service)
    assert isinstance(address, str)
    assert address == address.url == f"tcp://127.0.0.1:{address.tunnel.port}"
    assert address.tls_socket == address.tcp_socket == ("127.0.0.1", address.tunnel.port)
    assert fetch(address.replace("tcp://", "http://")) == b"hello from /"
    address.close()
    assert address.tunnel.closed


def test_the_address_is_written_as_a_plain_str() -> None:
    with forward(9) as address:
        copy = pickle.loads(pickle.dumps({address: [address]}))
        assert copy == {address.url: [address.url]}
        assert [type(text) for text in (*copy, address.url)] == [str, str]
        assert json.loads(json.dumps({address: address})) == {address.url: address.url}


async def test_forward_has_a_coroutine_too(service: int) -> None:
    async with await forward.aio(service, host="127.0.0.1") as address:
        url = address.replace("tcp://", "http://")
        assert await asyncio.to_thread(fetch, url) == b"hello from /"
    assert address.tunnel.closed


def test_half_close_goes_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, forward(server.getsockname()[1]) as url:
        assert isinstance(url, Forwarding)
        with socket.create_connection(url.tcp_socket, 10) as visitor:
            visitor.sendall(b"x" * 100_000)
            visitor.shutdown(socket.SHUT_WR)
            server.settimeout(10)
            service, _ = server.accept()
            with service:
                received = b"".join(iter(lambda: service.recv(65_536), b""))
                service.sendall(received)
            assert b"".join(iter(lambda: visitor.recv(65_536), b"")) == b"x" * 100_000


# --- relays -------------------------------------------------------------------------------------


async def test_the_relay_comes_from_the_call_or_the_settings(
    monkeypatch: pytest.MonkeyPatch, service: int
) -> None:
    async with (
        Relay(listen="127.0.0.1:0", domain="one.test", tokens=["a"]) as one,
        Relay(listen="127.0.0.1:0", domain="two.test", tokens=["b"]) as two,
    ):
        monkeypatch.setenv("TUNNELKIT_RELAY", one.url)
        monkeypatch.setenv("TUNNELKIT_TOKEN", "a")
        async with (
            await Tunnel.create.aio(port=service, name="App") as first,
            await Tunnel.create.aio(port=service, name="app", relay=two.url, token="b") as second,
            await Tunnel.create.aio(port=service, relay="local") as third,
        ):
            assert first.url == f"http://app.one.test:{one.addresses[0][1]}"
            assert second.url == f"http://app.two.test:{two.addresses[0][1]}"
            assert third.url.startswith("http://127.0.0.1:")


async def test_one_word_names_the_relay_of_a_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: int
) -> None:
    port = free_port()
    async with Relay(
        listen="127.0.0.1:0", domain="eu.test", tcp_ports=range(port, port + 1), tokens=["a"]
    ) as relay:
        monkeypatch.setenv("TUNNELKIT_RELAY", "ws://127.0.0.1:1")
        user = tmp_path / "tunnelkit"
        user.mkdir()
        (user / "tunnelkit.toml").write_text(f'[zones.eu]\nrelay = "{relay.url}"\ntoken = "a"')
        async with (
            await Tunnel.create.aio(port=service, name="app", zone="eu") as tunnel,
            await forward.aio(service, zone="eu") as address,
        ):
            assert tunnel.url.startswith("http://app.eu.test:")
            assert address == f"tcp://eu.test:{port}"
    with pytest.raises(InvalidError, match="Both zone= and relay= are given"):
        await forward.aio(service, zone="eu", relay=relay.url)
    with pytest.raises(InvalidError, match="There is no zone 'ue'"):
        Tunnel.create(zone="ue")


async def test_a_name_that_does_not_resolve_is_a_warning(
    caplog: pytest.LogCaptureFixture, service: int
) -> None:
    async with Relay(listen="127.0.0.1:0", domain="tunnels.invalid") as relay:
        async with await Tunnel.create.aio(port=service, relay=relay.url) as tunnel:
            assert "does not resolve" in tunnel.warnings[0]
    assert any("does not resolve" in record.getMessage() for record in caplog.records)


async def test_what_the_relay_answers_is_the_error() -> None:
    async with Relay(listen="127.0.0.1:0", tokens=["right"], tcp_ports=range(0)) as relay:
        with pytest.raises(AuthError):
            await Tunnel.create.aio(relay=relay.url, token="wrong")
        with pytest.raises(PortNotAllowedError):
            await forward.aio(9, relay=relay.url, token="right")
    with pytest.raises(RelayUnreachableError):
        await Tunnel.create.aio(relay=relay.url)


async def test_a_tunnel_that_another_program_takes_over_is_lost(
    caplog: pytest.LogCaptureFixture, service: int
) -> None:
    async with Relay(listen="127.0.0.1:0", domain="tunnels.test") as relay:
        tunnel = await Tunnel.create.aio(port=service, name="app", relay=relay.url)
        async with tunnelkit.Agent(relay.url) as other:
            await other.open("http", service, name="app")
            assert await asyncio.to_thread(eventually, lambda: tunnel.closed)
        assert isinstance(tunnel.error, ReplacedError)
        await tunnel.aclose()
    assert "a tunnel is lost" in caplog.text


async def test_how_it_goes_with_the_relay_is_in_the_log(
    caplog: pytest.LogCaptureFixture, service: int
) -> None:
    caplog.set_level(logging.INFO, "tunnelkit")

    def heard(text: str) -> bool:
        return any(text in record.getMessage() for record in caplog.records)

    relay = await Relay(listen="127.0.0.1:0").start()
    address = "{}:{}".format(*relay.addresses[0])
    async with await Tunnel.create.aio(port=service, relay=relay.url) as tunnel:
        await relay.close()
        assert await asyncio.to_thread(eventually, lambda: heard("is lost"))
        async with Relay(listen=address):
            caplog.clear()
            assert await asyncio.to_thread(eventually, lambda: heard("is up"))
            assert not tunnel.closed


def test_a_relay_that_says_nothing_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TunnelTimeoutError) as caught:
            Tunnel.create(relay=url, timeout=0.2)
    assert isinstance(caught.value, TimeoutError)


# --- wrong calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"port": 0}, InvalidPortError),
        ({"port": 70_000}, InvalidPortError),
        ({"port": "abc"}, InvalidPortError),
        ({"port": True}, InvalidPortError),
        ({"host": ""}, InvalidError),
        ({"host": None}, InvalidError),
        ({"host": "a b"}, InvalidTargetError),
        ({"host": "a@b"}, InvalidTargetError),
        ({"timeout": 0}, InvalidError),
        ({"timeout": -1}, InvalidError),
        ({"timeout": float("nan")}, InvalidError),
        ({"timeout": "soon"}, InvalidError),
        ({"name": ".."}, InvalidNameError),
        ({"name": ""}, InvalidNameError),
        ({"name": "a\0b"}, InvalidNameError),
        ({"name": "x" * 64}, InvalidNameError),
        ({"protocol": "udp"}, InvalidError),
        ({"protocol": "tcp", "name": "app"}, InvalidError),
        ({"protocol": "tcp", "host_header": "rewrite"}, InvalidError),
        ({"remote_port": 20_000}, InvalidError),
        ({"protocol": "tcp", "remote_port": 0}, InvalidPortError),
        ({"relay": "http://relay.example"}, InvalidError),
        ({"relay": 5}, InvalidError),
        ({"token": ""}, AuthMissingError),
    ],
)
def test_a_wrong_call_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], kind: type[Exception]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(socket.socket, "sendall", None)
    with pytest.raises(kind):
        Tunnel.create(**wrong)


def test_errors_name_the_keyword() -> None:
    with pytest.raises(InvalidError, match=r"^relay=: "):
        Tunnel.create(relay="https://relay.example")


# --- the package --------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    assert all(getattr(tunnelkit, name) is not None for name in tunnelkit.__all__)
    assert {"Tunnel", "forward", "Relay", "Agent", "TunnelkitError"} <= set(dir(tunnelkit))
    with pytest.raises(AttributeError, match="Tunel"):
        _ = tunnelkit.Tunel


def test_import_loads_next_to_nothing() -> None:
    program = "import sys, tunnelkit; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "msgspec", "websockets", "uvloop", "ssl", "socket", "subprocess", "click"}
    assert not heavy & set(done.stdout.split())


def test_a_program_that_creates_tunnels_loads_no_relay_and_no_agent() -> None:
    program = "import sys, tunnelkit; tunnelkit.Tunnel; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"tunnelkit.relay", "tunnelkit.agent", "uvloop"} & set(done.stdout.split())


def test_a_second_tunnel_takes_milliseconds(service: int) -> None:
    with Tunnel.create(port=service):
        begun = time.perf_counter()
        Tunnel.create(port=service).close()
        assert time.perf_counter() - begun < 1.0

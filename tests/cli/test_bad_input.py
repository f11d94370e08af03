"""Every mistake is one line with a code, on standard error, and an exit status of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.support import COMMAND, Tunnelkit
from tests.support import Child, free_port, start_process
from tunnelkit.cli.root import cli


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A relay with two tokens and two ports; ``ready[1]`` is its URL."""
    options = ["--listen", "127.0.0.1:0", "--domain", "tunnels.test", "--tcp-ports", "20990-20991"]
    tokens = tmp_path_factory.mktemp("relay") / "tokens"
    tokens.write_text("sesame\nmustard\n")
    command = [*COMMAND, "serve", *options, "--token-file", str(tokens)]
    with start_process(command, ready=r"listening on (ws://\S+)", cwd=tokens.parent) as child:
        yield child


def check(status: int, code: str, exit_code: int, stdout: str, stderr: str) -> None:
    assert exit_code == status, stderr
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.endswith(f"[{code}]\n")
    assert stderr.count("\n") == 1


# --- what needs nothing else ----------------------------------------------------------------------

LONG = "a" * 64


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["http", "0"], 10, "invalid_port"),
        (["http", "70000"], 10, "invalid_port"),
        (["http", "localhost:70000"], 10, "invalid_port"),
        (["http", "localhost:abc"], 10, "invalid_port"),
        (["http", "abc"], 11, "invalid_target"),
        (["http", ""], 11, "invalid_target"),
        (["http", "127.1:80"], 11, "invalid_target"),
        (["http", "https://localhost:8443"], 11, "invalid_target"),
        (["http", "unix:relative"], 11, "invalid_target"),
        (["http", "80", "--name", ".."], 9, "invalid_name"),
        (["http", "80", "--name", "a\0b"], 9, "invalid_name"),
        (["http", "80", "--name", "%0a"], 9, "invalid_name"),
        (["http", "80", "--name", ""], 9, "invalid_name"),
        (["http", "80", "--name", LONG], 9, "invalid_name"),
        (["http", "80", "--name", "www"], 9, "invalid_name"),
        (["http", "80", "--host-header", "a\r\nb"], 2, "invalid"),
        (["tcp", "80", "--remote-port", "0"], 10, "invalid_port"),
        (["tcp", "80", "--remote-port", "70000"], 10, "invalid_port"),
        (["tcp", "80", "--remote-port", "abc"], 10, "invalid_port"),
        (["tcp", "80", "--relay", "http://localhost:8080"], 2, "invalid"),
        (["tcp", "80", "--relay", "relay.example.com"], 2, "invalid"),
        (["tcp", "80", "--relay", "ws://relay.example.com", "--lan"], 2, "invalid"),
        (["tcp", "80", "--token", ""], 17, "auth_missing"),
        (["tcp", "80", "--token-file", "missing"], 17, "auth_missing"),
        (["tcp", "80", "--token", "a", "--token-file", "b"], 2, "invalid"),
        (["serve", "--listen", "nowhere"], 11, "invalid_target"),
        (["serve", "--listen", "127.0.0.1:70000"], 10, "invalid_port"),
        (["serve", "--tcp-ports", "9-1"], 10, "invalid_port"),
        (["serve", "--tcp-ports", "some"], 10, "invalid_port"),
        (["serve", "--token-file", "missing"], 17, "auth_missing"),
        (["serve", "--open", "--token", "sesame"], 2, "invalid"),
        (["serve", "--grace", "long"], 2, "invalid"),
        (["serve", "--domain", "127.0.0.1"], 2, "invalid"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_mistakes_in_options(
    arguments: list[str], status: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    result = CliRunner().invoke(cli, arguments)
    check(status, code, result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["http"], "TARGET"),
        (["http", "80", "--nmae", "a"], "Did you mean"),
        (["http", "80", "--name"], "--name"),
        (["tcp", "80", "--proxy-protocol", "3"], "'1', '2'"),
        (["--hep"], "Did you mean '--help'"),
        (["secret", "lst"], "'list'"),
    ],
)
def test_mistakes_in_usage(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    check(2, "usage", result.exit_code, result.stdout, result.stderr)
    assert word in result.stderr


def test_an_argument_too_many_is_not_shown() -> None:
    result = CliRunner().invoke(cli, ["secret", "info", "database", "hunter2"])
    check(2, "usage", result.exit_code, result.stdout, result.stderr)
    assert "hunter2" not in result.stderr


def test_an_error_shows_what_to_do(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("tcp", "80", "--remote-port", "0")
    assert done.stderr == ("error: Not a port: '0'. Ports are whole numbers from 1 to 65535 [invalid_port]\n")


# --- what the relay answers -----------------------------------------------------------------------


def fails(tunnelkit: Tunnelkit, status: int, code: str, *arguments: str) -> None:
    done = tunnelkit.run(*arguments)
    check(status, code, done.returncode, done.stdout, done.stderr)
    assert "sesame" not in done.stderr


def test_no_relay(tunnelkit: Tunnelkit) -> None:
    fails(tunnelkit, 3, "relay_unreachable", "tcp", "80", "--relay", f"ws://127.0.0.1:{free_port()}")


def test_a_relay_that_does_not_resolve(tunnelkit: Tunnelkit) -> None:
    fails(tunnelkit, 3, "relay_unreachable", "tcp", "80", "--relay", "ws://relay.invalid")


def test_a_web_server_is_no_relay(tunnelkit: Tunnelkit, web_service: int) -> None:
    fails(tunnelkit, 5, "not_a_relay", "tcp", "80", "--relay", f"ws://127.0.0.1:{web_service}")


def test_no_token(tunnelkit: Tunnelkit, relay: Child) -> None:
    fails(tunnelkit, 4, "auth_failed", "tcp", "80", "--relay", relay.ready[1])


def test_the_wrong_token(tunnelkit: Tunnelkit, relay: Child) -> None:
    fails(tunnelkit, 4, "auth_failed", "tcp", "80", "--relay", relay.ready[1], "--token", "sesam")


def test_a_name_of_somebody_else(tunnelkit: Tunnelkit, relay: Child) -> None:
    options = ["http", "80", "--name", "app", "--relay", relay.ready[1], "--token"]
    with tunnelkit.start(*options, "mustard") as other:
        fails(tunnelkit, 6, "name_taken", *options, "sesame")
        assert other.running


def test_a_port_of_somebody_else(tunnelkit: Tunnelkit, relay: Child) -> None:
    options = ["tcp", "80", "--remote-port", "20990", "--relay", relay.ready[1], "--token"]
    with tunnelkit.start(*options, "mustard") as other:
        fails(tunnelkit, 7, "port_taken", *options, "sesame")
        assert other.running


def test_a_port_outside_the_range(tunnelkit: Tunnelkit, relay: Child) -> None:
    options = ["--remote-port", "20992", "--relay", relay.ready[1], "--token", "sesame"]
    fails(tunnelkit, 8, "port_not_allowed", "tcp", "80", *options)


def test_upper_case_in_a_name_is_folded(tunnelkit: Tunnelkit, relay: Child) -> None:
    options = ["--name", "Folded", "--relay", relay.ready[1], "--token", "sesame"]
    with tunnelkit.start("http", "80", *options) as child:
        assert child.stdout.startswith("http://folded.tunnels.test:")


def test_no_service_with_check(tunnelkit: Tunnelkit) -> None:
    fails(tunnelkit, 12, "service_refused", "http", str(free_port()), "--check")
    fails(tunnelkit, 12, "service_refused", "tcp", str(free_port()), "--check")


# --- relays that do not start ---------------------------------------------------------------------


def test_a_public_relay_without_a_token(tunnelkit: Tunnelkit) -> None:
    fails(tunnelkit, 17, "auth_missing", "serve", "--listen", "0.0.0.0:0")


def test_an_address_that_is_in_use(tunnelkit: Tunnelkit, web_service: int) -> None:
    fails(tunnelkit, 16, "address_in_use", "serve", "--listen", f"127.0.0.1:{web_service}")


def test_an_address_of_another_machine(tunnelkit: Tunnelkit) -> None:
    options = ["--listen", "198.51.100.1:8080", "--token", "x"]
    fails(tunnelkit, 16, "address_in_use", "serve", *options)


def test_an_empty_token_in_the_environment(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("serve", "--listen", "127.0.0.1:0", env={"TUNNELKIT_TOKEN": ""})
    check(17, "auth_missing", done.returncode, done.stdout, done.stderr)

"""``tunnelkit egress`` as a command: its settings, its refusals, its users and its end."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import COMMAND
from tests.support.processes import start_process


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "egress", *arguments],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        (["--listen", "0.0.0.0:0"], 17, "auth_missing"),
        (["--users", "no-such-file"], 17, "auth_missing"),
        (["--users", ""], 17, "auth_missing"),
        (["--client", ""], 17, "auth_missing"),
        (["--source-ip", "192.0.2.1"], 24, "proxy_unavailable"),
        (["--source-ip", "here"], 2, "invalid"),
        (["--allow", "10.0.0.0/99"], 2, "invalid"),
        (["--upstream", "https://127.0.0.1"], 2, "invalid"),
        (["--exit", "office"], 2, "invalid"),
        (["--token", "abc"], 2, "invalid"),
        (["--connections", "none"], 2, "invalid"),
        (["--access-log", "/no/such/directory/log"], 2, "invalid"),
    ],
)
def test_what_it_refuses_at_the_start(options: list[str], status: int, code: str, tmp_path: Path) -> None:
    ran = run("--listen", "127.0.0.1:0", *options, cwd=tmp_path)
    assert ran.returncode == status, ran.stderr
    assert f"[{code}]" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_empty_file_of_users_is_no_open_door(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# nobody yet\n")
    ran = run("--listen", "127.0.0.1:0", "--users", "users", cwd=tmp_path)
    assert ran.returncode == 17


def test_users_are_added_and_changed_and_their_passwords_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "users"
    for name, password in (("alice", "first"), ("bob", "other"), ("alice", "second")):
        assert run("user", name, "--users", str(path), stdin=f"{password}\n").returncode == 0
    lines = path.read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["bob", "alice"]
    assert not any(word in path.read_text() for word in ("first", "other", "second"))
    assert path.stat().st_mode & 0o077 == 0
    assert run("user", "alice", stdin="\n").returncode == 17
    assert run("user", "a:b", stdin="x\n").returncode != 0


def test_a_client_with_a_password_a_log_and_the_end(tmp_path: Path) -> None:
    run("user", "alice", "--users", "users", stdin="secret\n", cwd=tmp_path)
    (tmp_path / "tunnelkit.toml").write_text(
        '[egress]\nlisten = "127.0.0.1:0"\nusers = "users"\naccess_log = "access"\n'
        'rules = ["deny 127.0.0.2", "allow 127.0.0.0/8"]\n'
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        start_process(
            [*COMMAND, "egress", "--source-ip", "127.0.0.1"], ready=r"HTTP on 127.0.0.1:(\d+)", cwd=tmp_path
        ) as proxy,
    ):
        port = int(proxy.ready[1])
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            login = b"\x05\x01\x02\x01\x05alice\x06secret\x05\x01\x00\x01\x7f\0\0\1"
            client.sendall(login + service.getsockname()[1].to_bytes(2, "big") + b"up")
            accepted, _ = service.accept()
            with accepted:
                assert accepted.recv(2) == b"up"
                proxy.signal(signal.SIGTERM)  # and yet this one may finish
                accepted.sendall(b"down")
            assert client.makefile("rb").read()[-4:] == b"down"
        assert proxy.wait() == 0
    (line,) = (tmp_path / "access").read_text().splitlines()
    assert " user=alice protocol=socks5 to=127.0.0.1:" in line
    assert line.endswith(" end=ok")
    assert "secret" not in line + proxy.stderr


def test_rules_of_the_command_line_keep_their_order() -> None:
    refused = "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n"
    for rules, status in (
        (["--allow", "127.0.0.1", "--deny=127.0.0.0/8"], "502"),
        (["--deny=127.0.0.0/8", "--allow", "127.0.0.1"], "403"),
    ):
        with start_process(
            [*COMMAND, "egress", "--listen", "127.0.0.1:0", *rules], ready=r"HTTP on 127.0.0.1:(\d+)"
        ) as proxy:
            with socket.create_connection(("127.0.0.1", int(proxy.ready[1])), 10) as client:
                client.sendall(refused.encode())
                assert client.makefile().readline().split()[1] == status


def test_the_environment_has_names_of_its_own(tmp_path: Path) -> None:
    environment = {"TUNNELKIT_EGRESS_SOURCE_IP": "192.0.2.1", "TUNNELKIT_EGRESS_LISTEN": "127.0.0.1:0"}
    with start_process([*COMMAND, "egress"], env=environment, cwd=tmp_path) as proxy:
        assert proxy.wait() == 24
    with start_process([*COMMAND, "egress"], env={"TUNNELKIT_EGRESS_USER": "x"}, cwd=tmp_path) as it:
        assert it.wait() == 17
        assert "TUNNELKIT_EGRESS_USERS" in it.stderr

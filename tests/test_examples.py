"""Every example runs as its page says."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.support import free_port, program, start_process
from tests.support.sshd import make_key, sshd

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_each_example_is_run_by_a_test_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    examples = [path.name for path in EXAMPLES.glob("*.py")]
    assert examples
    assert [name for name in examples if f'"{name}"' not in here] == []


def test_a_web_server() -> None:
    with start_process([sys.executable, EXAMPLES / "web_server.py", "--once"]) as example:
        assert example.wait() == 0, str(example)
        first, second = example.stdout.splitlines()
        assert first.startswith("Serving at http://127.0.0.1:")
        assert second == "Hello, 127.0.0.1! You asked for /"


def test_an_asgi_application_whose_stream_comes_through() -> None:
    with start_process([sys.executable, EXAMPLES / "asgi_app.py", "--once"]) as example:
        assert example.wait() == 0, str(example)
        assert "data: 0\n\ndata: 1\n" in example.stdout
        assert example.stdout.endswith("data: done\n\n")


@pytest.mark.needs("redis-server")
def test_a_database() -> None:
    port = free_port()
    redis = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with start_process(redis, ready=port):
        with start_process([sys.executable, EXAMPLES / "database.py", "localhost", str(port)]) as example:
            assert example.wait() == 0, str(example)
            assert "hello through the tunnel" in example.stdout


def test_an_egress_proxy() -> None:
    with start_process([sys.executable, EXAMPLES / "egress_proxy.py", "127.0.0.1"]) as example:
        assert example.wait() == 0, str(example)
        assert "Hello, 127.0.0.1!\n" in example.stdout
        assert " protocol=http " in example.stdout


@pytest.mark.needs("ssh")
async def test_a_relay_for_ssh(tmp_path: Path) -> None:
    key, port = await make_key(tmp_path / "key"), free_port()
    argv = [sys.executable, EXAMPLES / "ssh_relay.py", f"{key}.pub", "--port", str(port)]
    async with start_process([*argv, "--host-key", tmp_path / "host"], ready="^The host key is SHA256:"):
        ssh = [program("ssh"), "-F", "/dev/null", "-i", key, "-o", "StrictHostKeyChecking=no"]
        ssh += ["-o", "UserKnownHostsFile=/dev/null", "-p", str(port), "-R", f"0:127.0.0.1:{port}"]
        async with start_process([*ssh, "127.0.0.1"], ready=r"^tcp://127\.0\.0\.1:(\d+)$") as client:
            with socket.create_connection(("127.0.0.1", int(client.ready[1]))) as visitor:
                assert visitor.recv(8) == b"SSH-2.0-"  # the relay itself is the service


@pytest.mark.needs("ssh", "sshd")
async def test_over_ssh(tmp_path: Path) -> None:
    async with sshd(tmp_path) as server:
        argv = [sys.executable, EXAMPLES / "over_ssh.py", server.url.partition("//")[2], "--once"]
        argv += ["--identity-file", server.key, "--host-key", server.host_key]
        async with start_process(argv) as example:
            assert await example.wait_async() == 0, str(example)
            first, second = example.stdout.splitlines()
            assert first.startswith("Greeting at tcp://127.0.0.1:")
            assert second == "Hello through SSH!"

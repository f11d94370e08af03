"""Every example runs as its page says."""

from __future__ import annotations

import os
import socket
import subprocess
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


def test_environments(tmp_path: Path) -> None:
    home = {"TUNNELKIT_HOME": str(tmp_path / "home")}
    run(["-m", "tunnelkit", "environment", "create", "production"], home)
    create = ["-m", "tunnelkit", "secret", "create", "database", "PASSWORD=-"]
    run([*create, "HOST=localhost"], home, "pass")
    run([*create, "HOST=db.internal", "--env", "production"], home, "longer password")
    example = str(EXAMPLES / "environments.py")
    said = run([example], home)
    assert "Secret.from_name('database') connects to localhost with a password of 4 characters" in said
    said = run([example], home | {"TUNNELKIT_ENVIRONMENT": "production"})
    assert "connects to db.internal with a password of 15 characters" in said
    assert "has HOST, PASSWORD" in said


def test_a_dotenv_file_is_imported(tmp_path: Path) -> None:
    home = {"TUNNELKIT_HOME": str(tmp_path / "home")}
    path = tmp_path / ".env"
    path.write_text("export HOST=localhost\nURL='http://${HOST}/'\n")
    import_ = [str(EXAMPLES / "import_dotenv.py"), str(path), "app"]
    for version in (1, 1):
        assert run(import_, home) == f"Secret.from_name('app') has HOST, URL in version {version}\n"
    path.write_text("HOST=other\n")
    assert run(import_, home) == "Secret.from_name('app') has HOST in version 2\n"


def run(arguments: list[str], variables: dict[str, str], text: str = "") -> str:
    """The output of Python with these arguments."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUNNELKIT_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environ | variables,
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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

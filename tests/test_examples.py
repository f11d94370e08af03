"""Every example runs as its page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import free_port, program, start_process

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

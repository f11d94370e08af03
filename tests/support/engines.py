"""Programs that use an engine, and what happens around them."""

from __future__ import annotations

import http.server
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]

PRELUDE = """
import os, signal, sys, time
import tunnelkit
from tunnelkit.engine.program import engine_pid

def say(*words):
    print(*words, flush=True)
"""


def program_of(body: str, *flags: str) -> list[str]:
    """The command that runs ``body`` as a program which uses this tunnelkit."""
    path = f"import sys; sys.path.append({str(ROOT)!r})"
    return [sys.executable, *flags, "-c", path + PRELUDE + dedent(body)]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether ``condition`` comes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_running(pid: int) -> bool:
    """Whether the process runs: one that nobody has reaped yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def ends(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within ``seconds``."""
    return eventually(lambda: not is_running(pid), seconds)


def accepts(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


def fetch(url: str) -> bytes:
    """What is at ``url``, fetched without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def hello_server() -> Iterator[int]:
    """The port of an HTTP service that greets, in a thread of its own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def forget_settings(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """As if nothing was ever set for tunnelkit on this machine; ``directory`` is empty."""
    for variable in [name for name in os.environ if name.startswith("TUNNELKIT_")]:
        monkeypatch.delenv(variable)
    for variable in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(variable, str(directory))
    monkeypatch.chdir(directory)

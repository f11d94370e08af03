"""What a program in the near namespace does: ``scenarios.py SCENARIO``; prints JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunnelkit import App
from tunnelkit.functions.engine import close

PIN, OTHER, SERVER = "203.0.113.7", "203.0.113.2", "203.0.113.1"
PIN6, OTHER6, SERVER6 = "2001:db8::7", "2001:db8::2", "2001:db8::1"


@dataclass
class Route:
    ips: tuple[str, ...]
    gateway: str = ""


@dataclass
class Proxy:
    """As a stored one: says where to leave from, each time."""

    ips: tuple[str, ...]

    def route(self) -> Route:
        return Route(self.ips)


BOTH = Proxy((PIN, PIN6))
FOUR = Proxy((PIN,))
app = App("pinned")


def http_over(sock: socket.socket) -> str:
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    data = b""
    while piece := sock.recv(4096):
        data += piece
    return data.rpartition(b"\r\n\r\n")[2].decode()


def outcome(attempt: Callable[[], Any]) -> Any:
    """What it returns, or the name of the error that it raises."""
    import errno

    try:
        return attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


@app.function(proxy=BOTH)
def leaving() -> dict[str, Any]:
    def udp(host: str, bound: str | None = None) -> str:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            if bound is not None:
                sock.bind((bound, 0))
            sock.sendto(b"?", (host, 5353))
            return sock.recv(100).decode()

    def pktinfo(source: str) -> str:
        info = bytes(4) + socket.inet_aton(source) + bytes(4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendmsg([b"!", b"?"], [(socket.SOL_IP, 8, info)], 0, (SERVER, 5353))
            return sock.recv(100).decode()

    def tcp(host: str, *bound: str) -> str:
        source = (*bound, 0) if bound else None
        with socket.create_connection((host, 80), 5, source) as sock:  # type: ignore[arg-type]
            return http_over(sock)

    def blocking() -> str:
        with socket.socket() as sock:
            sock.connect((SERVER, 80))
            return http_over(sock)

    def mapped() -> str:
        with socket.socket(socket.AF_INET6) as sock:
            sock.connect((f"::ffff:{SERVER}", 80))
            return http_over(sock)

    def later() -> str:
        """asyncio, which does not wait in connect(2)."""
        import asyncio

        async def get() -> str:
            reader, writer = await asyncio.open_connection(SERVER, 80)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            data = await reader.read()
            writer.close()
            return data.rpartition(b"\r\n\r\n")[2].decode()

        return asyncio.run(get())

    def urllib() -> str:
        from urllib.request import urlopen

        return str(urlopen(f"http://{SERVER}/", timeout=5).read().decode())

    return {
        "tcp": tcp(SERVER),
        "tcp6": tcp(SERVER6),
        "blocking": blocking(),
        "mapped": mapped(),
        "asyncio": later(),
        "urllib": urllib(),
        "bound to the pin": tcp(SERVER, PIN),
        "bound to another": outcome(lambda: tcp(SERVER, OTHER)),
        "udp": udp(SERVER),
        "udp6": udp(SERVER6),
        "udp, bound to any": udp(SERVER, "0.0.0.0"),
        "udp, bound to another": outcome(lambda: udp(SERVER, OTHER)),
        "pktinfo": pktinfo("0.0.0.0"),
        "pktinfo of another": outcome(lambda: pktinfo(OTHER)),
    }


@app.function(proxy=FOUR)
def programs() -> dict[str, str]:
    import subprocess

    code = f"import urllib.request as u; print(u.urlopen('http://{SERVER}/').read().decode())"
    commands = {
        "curl": ["curl", "-sS", f"http://{SERVER}/"],
        "shell": ["sh", "-c", f"(setsid curl -sS http://{SERVER}/) & wait"],
        "python": [sys.executable, "-c", code],
        "six": ["curl", "-sS", "--max-time", "5", f"http://[{SERVER6}]/"],
    }
    return {
        name: subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20).stdout.strip()
        for name, argv in commands.items()
    }


@app.function(proxy=BOTH)
def at_home() -> dict[str, Any]:
    """Loopback, in and out; and listeners on every address."""
    import threading

    from tunnelkit import Tunnel

    def accept(listener: socket.socket) -> None:
        listener.accept()[0].close()

    def echo(family: socket.AddressFamily, host: str, to: str) -> tuple[str, str]:
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            threading.Thread(target=accept, args=(listener,)).start()
            with socket.create_connection((to, listener.getsockname()[1]), 5) as sock:
                return listener.getsockname()[0], sock.getsockname()[0]

    def tunnel() -> str:
        from http.server import BaseHTTPRequestHandler, HTTPServer
        from urllib.request import urlopen

        class Hello(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_: object) -> None: ...

        with HTTPServer(("", 0), Hello) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with Tunnel.create(port=server.server_port) as opened:
                said = urlopen(opened.url, timeout=10).read().decode()
            server.shutdown()
        return str(said)

    return {
        "any": echo(socket.AF_INET, "", "127.0.0.1"),
        "any6": echo(socket.AF_INET6, "::", "127.0.0.1"),
        "own6": echo(socket.AF_INET6, "::1", "::1"),
        "tunnel": tunnel(),
    }


class Changing:
    """A proxy whose address is another at each call."""

    def __init__(self) -> None:
        self.left = [PIN, OTHER, OTHER]

    def route(self) -> Route:
        return Route((self.left.pop(0),))


@app.function(proxy=Changing())
def changed(*_: int) -> tuple[int, str]:
    with socket.create_connection((SERVER, 80), 5) as sock:
        return os.getpid(), http_over(sock)


@app.function(proxy=FOUR)
def static(binary: str) -> str:
    import subprocess

    ran = subprocess.run([binary, SERVER], check=False, capture_output=True, text=True, timeout=20)
    return ran.stdout.strip() or ran.stderr


@app.function(proxy=FOUR)
def orphan() -> Any:
    """What is left of a function whose supervisor is killed."""
    import signal
    import time

    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(5)
    return "still there"


@app.function(proxy=FOUR)
def refused() -> dict[str, Any]:
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(425, 1, 0)
    ring = errno.errorcode[ctypes.get_errno()]

    def make(*kind: int) -> str:
        socket.socket(*kind).close()
        return "made"

    return {
        "io_uring": ring,
        "raw": outcome(lambda: make(socket.AF_INET, socket.SOCK_RAW, 1)),
        "packet": outcome(lambda: make(17, socket.SOCK_RAW, 0)),
        "sctp": outcome(lambda: make(socket.AF_INET, socket.SOCK_STREAM, 132)),
        "six": outcome(lambda: socket.create_connection((SERVER6, 80), 5)),
    }


@app.function(proxy=Proxy(("203.0.113.99",)))
def nowhere() -> str:
    return "has run"


@app.function(proxy=FOUR)
def timed(count: int) -> tuple[float, float]:
    """Seconds for a connection within the machine, to a listener on the pin and on loopback."""
    import time

    times = []
    for host in (PIN, "127.0.0.1"):
        with socket.create_server((host, 0), backlog=count) as listener:
            begin = time.perf_counter()
            for _ in range(count):
                with socket.socket() as sock:
                    sock.connect(listener.getsockname())
            times.append((time.perf_counter() - begin) / count)
    return times[0], times[1]


def main(scenario: str) -> Any:
    from tunnelkit import TunnelkitError

    function = app.functions[scenario]
    try:
        if scenario == "changed":
            return [function.remote() for _ in range(3)]
        arguments = sys.argv[2:] if scenario == "static" else map(int, sys.argv[2:])
        return function.remote(*arguments)
    except TunnelkitError as error:
        return {"code": error.code, "what": error.what}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
    close()

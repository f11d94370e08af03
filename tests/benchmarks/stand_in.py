"""Stands in for tunnels that no test can install: it takes their arguments and configuration files, and
carries connections as they do, after a moment in which it is not ready.

Its name (``argv[0]``) says which program it is. What it does not understand ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SLOW = 0.2  # seconds before the client says what it wants: too early a visitor fails

Registration = dict[str, Any]


def main() -> None:
    program, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    {
        "bore": bore,
        "chisel": chisel,
        "frpc": frpc,
        "frps": frps,
        "piko": piko,
        "rathole": rathole,
        "sish": sish,
        "ssh": ssh,
        "wstunnel": wstunnel,
    }[program](arguments)


# --- the programs ---------------------------------------------------------------------------------


def frps(arguments: list[str]) -> None:
    config = toml(arguments[1])
    http = f"127.0.0.1:{config['vhostHTTPPort']}" if "vhostHTTPPort" in config else None
    server(f"{config['bindAddr']}:{config['bindPort']}", shared(config), http=http)


def frpc(arguments: list[str]) -> None:
    config = toml(arguments[1])
    (proxy,) = config["proxies"]
    public = f"127.0.0.1:{proxy['remotePort']}" if proxy["type"] == "tcp" else None
    assert public or proxy["customDomains"]
    client(
        f"{config['serverAddr']}:{config['serverPort']}",
        shared(config),
        f"{proxy['localIP']}:{proxy['localPort']}",
        public,
    )


def shared(config: Mapping[str, Any]) -> str:
    """What both ends of frp have to agree on."""
    return f"{config['auth']['token']} {config.get('transport', {}).get('tcpMux')}"


def rathole(arguments: list[str]) -> None:
    side, *rest = arguments
    if side == "--genkey":
        print("Private Key:\ncHJpdmF0ZQ==\n\nPublic Key:\ncHVibGlj")
        return
    config = toml(rest[0])[side.removeprefix("--")]
    transport = config.get("transport", {}).get("type")
    key = f"{config['default_token']} {transport}"
    service = config["services"]["service"]
    if side == "--server":
        server(config["bind_addr"], key, public=service["bind_addr"])
    else:
        client(config["remote_addr"], key, service["local_addr"])


def chisel(arguments: list[str]) -> None:
    role, *rest = arguments
    if role == "server":
        given = options(rest)
        server(f"{given['--host']}:{given['--port']}", os.environ["AUTH"])
    url, (_, host, port, *service) = rest[0], rest[1].split(":")
    client(address_of(url), os.environ["AUTH"], ":".join(service), f"{host}:{port}")


def bore(arguments: list[str]) -> None:
    role, *rest = arguments
    given = options(rest)
    control = os.environ["STAND_IN_CONTROL"]  # the real one's port is fixed, and may be in use
    if role == "server":
        server(f"{given['--bind-addr']}:{control}", os.environ["BORE_SECRET"])
    service = f"{given['--local-host']}:{rest[0]}"
    client(f"{given['--to']}:{control}", os.environ["BORE_SECRET"], service, f"127.0.0.1:{given['--port']}")


def wstunnel(arguments: list[str]) -> None:
    role, *rest = arguments
    scheme = rest[-1].partition(":")[0]
    if role == "server":
        server(address_of(rest[0]), scheme)
    host, port, *service = options(rest)["-R"].removeprefix("tcp://").split(":")
    client(address_of(rest[-1]), scheme, ":".join(service), f"{host}:{port}")


def sish(arguments: list[str]) -> None:
    given = dict(argument.split("=") for argument in arguments if "=" in argument)
    assert Path(given["--private-keys-directory"]).is_dir()
    server(given["--ssh-address"], "", http=given["--http-address"])


def ssh(arguments: list[str]) -> None:
    given = options(arguments)
    remote, host, port = given["-R"].rsplit(":", 2)
    public = None if remote == "app:80" else f"127.0.0.1:{remote}"
    client(f"{arguments[-1].partition('@')[2]}:{given['-p']}", "", f"{host}:{port}", public)


def piko(arguments: list[str]) -> None:
    role, *rest = arguments
    given = options(rest)
    if role == "server":
        proxy, admin = given["--proxy.bind-addr"], given["--admin.bind-addr"]
        server(given["--upstream.bind-addr"], "", http=proxy, status=admin)
    elif role == "agent":
        assert rest[1] == "app"
        client(address_of(given["--connect.url"]), "", rest[2])
    else:
        listen(rest[1], lambda visitor: join(visitor, dial(address_of(given["--connect.url"]))))
        threading.Event().wait()


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads(Path(path).read_text())


def options(arguments: list[str]) -> dict[str, str]:
    """Each option with the argument behind it, which may be none of its own."""
    return {
        name: value for name, value in zip(arguments, [*arguments[1:], ""], strict=True) if name[0] == "-"
    }


def address_of(url: str) -> str:
    return url.partition("://")[2]


# --- what all of them do --------------------------------------------------------------------------


def server(
    control: str, key: str, *, public: str | None = None, http: str | None = None, status: str | None = None
) -> None:
    registered: list[Registration] = []

    def register(connection: socket.socket) -> None:
        with connection, connection.makefile("r") as lines:
            if not (line := lines.readline()):
                return
            wanted = json.loads(line)
            assert wanted["key"] == key, "the two ends disagree"
            registered.append(wanted)
            if where := public or wanted["public"]:
                listen(where, lambda visitor: join(visitor, dial(wanted["service"])))
            lines.readline()  # for as long as the client is there

    def visit(visitor: socket.socket) -> None:
        if registered:
            join(visitor, dial(registered[0]["service"]))
        else:
            answer(visitor, "404 Not Found", "")

    if http:
        listen(http, visit)
    if status:
        listen(
            status, lambda visitor: answer(visitor, "200 OK", json.dumps({"app": 1} if registered else {}))
        )
    listen(control, register)
    threading.Event().wait()


def client(control: str, key: str, service: str, public: str | None = None) -> None:
    time.sleep(SLOW)
    with dial(control) as connection:
        wanted = {"key": key, "service": service, "public": public}
        connection.sendall(json.dumps(wanted).encode() + b"\n")
        connection.recv(1)


def listen(address: str, handle: Callable[[socket.socket], None]) -> None:
    host, _, port = address.rpartition(":")
    listener = socket.create_server((host, int(port)))

    def accept() -> None:
        while True:
            threading.Thread(target=handle, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join()
    one.close()
    other.close()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def answer(visitor: socket.socket, status: str, body: str) -> None:
    with visitor:
        visitor.recv(65_536)
        visitor.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


if __name__ == "__main__":
    main()

"""Servers that tell each client the address it comes from, and write it to standard output too.

HTTP (80), HTTPS (443), PostgreSQL's greeting and one row (5432) and UDP (5353), IPv4 and IPv6.
"""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

GIT = Path(sys.argv[1])


def tell(kind: str, address: str) -> str:
    address = address.removeprefix("::ffff:")
    os.write(1, f"source {kind} {address}\n".encode())  # from several threads: whole lines only
    return address


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = tell("http", self.client_address[0]).encode()
        file = GIT / self.path.partition("?")[0].removeprefix("/repository/")
        if self.path.startswith("/repository/"):
            body = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class DualStack(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128


class Postgres(socketserver.StreamRequestHandler):
    """As much of the protocol as psql needs for one query."""

    def handle(self) -> None:
        address = tell("postgres", self.client_address[0]).encode()
        while True:
            length = int.from_bytes(self.rfile.read(4))
            startup = self.rfile.read(length - 4)
            if startup[:4] == b"\x00\x03\x00\x00":
                break
            self.wfile.write(b"N")  # neither TLS nor GSS
        ready = b"Z\0\0\0\x05I"
        self.wfile.write(b"R\0\0\0\x08\0\0\0\0" + ready)
        while (kind := self.rfile.read(1)) == b"Q":
            self.rfile.read(int.from_bytes(self.rfile.read(4)) - 4)
            row = (
                b"\0\x01address\0" + bytes(6) + (25).to_bytes(4, "big") + b"\xff\xff" + b"\xff" * 4 + b"\0\0"
            )
            data = b"\0\x01" + len(address).to_bytes(4, "big") + address
            for letter, body in ((b"T", row), (b"D", data), (b"C", b"SELECT 1\0")):
                self.wfile.write(letter + (len(body) + 4).to_bytes(4, "big") + body)
            self.wfile.write(ready)
        assert kind in (b"X", b"")


class DualStackTcp(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True


class Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data + tell("udp", self.client_address[0]).encode(), self.client_address)


class DualStackUdp(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("server.test").configure_cert(context)
    https = DualStack(("::", 443), Http)
    https.socket = context.wrap_socket(https.socket, server_side=True)
    servers = (
        DualStack(("::", 80), Http),
        https,
        DualStackTcp(("::", 5432), Postgres),
        DualStackUdp(("::", 5353), Udp),
    )
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

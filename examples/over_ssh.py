"""A TCP tunnel through any SSH server that forwards ports; nothing has to be installed there.

    python examples/over_ssh.py me@server.example.com

The server needs ``GatewayPorts yes`` for others to come in, and its host key in ~/.ssh/known_hosts, where a
first ``ssh me@server.example.com`` puts it. ``--identity-file`` and ``--host-key`` say otherwise.
"""

from __future__ import annotations

import argparse
import socket
import threading

import tunnelkit

parser = argparse.ArgumentParser(description="Greets whoever connects, through an SSH server.")
parser.add_argument("server", help="USER@HOST or USER@HOST:PORT")
parser.add_argument("--identity-file", help="the private key, if it is none that ssh would find")
parser.add_argument("--host-key", help="the server's fingerprint, SHA256:…, if known_hosts does not have it")
parser.add_argument("--once", action="store_true", help="be one's own visitor, and end")


def greet(listener: socket.socket) -> None:
    """The service: a line for each visitor."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"Hello through SSH!\n")


def main() -> None:
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=greet, args=(listener,), daemon=True).start()
    with tunnelkit.forward(
        listener.getsockname()[1],
        host="127.0.0.1",
        relay=f"ssh+openssh://{options.server}",
        identity_file=options.identity_file,
        host_key=options.host_key,
    ) as address:
        print("Greeting at", address, flush=True)
        if options.once:
            with socket.create_connection(address.tcp_socket) as visitor:
                print(visitor.makefile().readline(), end="")
        else:
            threading.Event().wait()


if __name__ == "__main__":
    main()

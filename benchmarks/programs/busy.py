"""A program with a tunnel: ``python -m benchmarks.programs.busy SERVICE [--busy] [--direct]``.

One call of the library opens a TCP tunnel, and the public address is printed; with ``--direct`` there is no
tunnel, and the address is the service's. Then the program either
waits for the end of its standard input, or keeps a core busy with short system calls, which is what
starves an event loop in a thread of the same interpreter most.
"""

from __future__ import annotations

import os
import sys

import tunnelkit


def main(service: str, *options: str) -> None:
    host, _, port = service.rpartition(":")
    if "--direct" in options:
        print(service, flush=True)
    else:
        tunnel = tunnelkit.Tunnel.create(host=host, port=int(port), protocol="tcp")
        print(f"{tunnel.unencrypted_host}:{tunnel.unencrypted_port}", flush=True)
    if "--busy" not in options:
        sys.stdin.read()
    while True:  # until the harness ends it
        os.stat("/")  # noqa: PTH116 - the system call alone


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A relay for people who have nothing but ``ssh``, in an event loop of one's own.

    python examples/ssh_relay.py ~/.ssh/authorized_keys

Then, on a machine with one of these keys and a service at port 8000:

    ssh -p 2222 -R 20001:localhost:8000 127.0.0.1
"""

from __future__ import annotations

import argparse
import asyncio

import tunnelkit

parser = argparse.ArgumentParser(description="Runs a relay for ssh -R.")
parser.add_argument("keys", help="who may come in: public keys, one a line")
parser.add_argument("--port", type=int, default=2222, help="where SSH clients come in")
parser.add_argument("--host-key", default="ssh_host_key", help="made at the first start")


async def main() -> None:
    options = parser.parse_args()
    ssh = tunnelkit.RelaySsh(
        host_key=options.host_key,
        authorized_keys=options.keys,
        listen=[f"127.0.0.1:{options.port}"],
    )
    async with tunnelkit.Relay(listen="127.0.0.1:0", tcp_ports=range(20_000, 20_100), ssh=ssh) as relay:
        host, port = relay.ssh_addresses[0]
        print(f"ssh -p {port} -R 20001:localhost:8000 {host}", flush=True)
        print("The host key is", relay.ssh_fingerprint, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass

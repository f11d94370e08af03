"""A database that only this machine reaches gets a public TCP port.

    pip install redis
    python examples/database.py [HOST] [PORT]    # a Redis server, by default the one on this machine

``forward`` returns a string that is the address, and closes the tunnel at the end of the ``with``.
"""

import sys

import redis

import tunnelkit


def main(host: str = "localhost", port: str = "6379") -> None:
    with tunnelkit.forward(int(port), host=host) as address:
        print(f"Redis is at {address}")
        public_host, public_port = address.tcp_socket
        with redis.Redis(public_host, public_port, decode_responses=True) as client:
            client.set("greeting", "hello through the tunnel", ex=60)
            print(client.get("greeting"))


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""Requests that leave from an address of your choice.

    python examples/egress_proxy.py [SOURCE_IP]    # by default one of the loopback addresses, for trying

Starts an egress proxy in this program, and fetches a page of a local web server through it: the
server says which address it was asked from.
"""

import asyncio
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import tunnelkit


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"Hello, {self.client_address[0]}!\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def fetch(url: str, proxy: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode()


async def main(source_ip: str = "127.0.0.1") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    Thread(target=server.serve_forever, daemon=True).start()
    # Addresses of this machine and of private networks are only for rules that name them.
    async with tunnelkit.EgressProxy(
        source_ips=[source_ip], rules=["allow 127.0.0.1", "deny *"], on_access=print
    ) as proxy:
        print(f"Clients use {proxy.url} or {proxy.socks_url}")
        url = f"http://127.0.0.1:{server.server_port}/"
        print(await asyncio.to_thread(fetch, url, proxy.url), end="")
    server.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))

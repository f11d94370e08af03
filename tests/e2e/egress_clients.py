"""Python clients behind the proxy: ``egress_clients.py WHAT PROXY_HOST:PORT [ARGUMENT…]``."""

from __future__ import annotations

import asyncio
import collections
import json
import socket
import sys
import threading
import time

PROXY = sys.argv[2]


def requests(scheme: str, url: str) -> None:
    import requests

    proxy = f"{scheme}://{PROXY}"
    session = requests.Session()
    session.trust_env = False
    print(session.get(url, proxies={"http": proxy, "https": proxy}, verify=False, timeout=10).text)


def httpx(scheme: str, url: str) -> None:
    import httpx

    with httpx.Client(proxy=f"{scheme}://{PROXY}", verify=False, trust_env=False) as client:
        print(client.get(url).text)


def aiohttp(url: str) -> None:
    import aiohttp

    async def get() -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, proxy=f"http://{PROXY}", ssl=False) as answer,
        ):
            return await answer.text()

    print(asyncio.run(get()))


def udp(host: str) -> None:
    """SOCKS5 UDP ASSOCIATE, one datagram there and back."""
    control = socket.create_connection(PROXY.split(":"), 10)
    control.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
    reply = b""
    while len(reply) < 12:
        reply += control.recv(100)
    relay = socket.inet_ntoa(reply[6:10]), int.from_bytes(reply[10:12])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = b"\x04" if ":" in host else b"\x01"
        sock.sendto(b"\0\0\0" + kind + socket.inet_pton(family, host) + (5353).to_bytes(2) + b"?", relay)
        try:
            print(sock.recv(1000).rpartition(b"?")[2].decode())
        except TimeoutError:
            print("nothing")


def load(host: str, seconds: str) -> None:
    """Request after request, eight at a time; counts by answer as JSON, ``started`` before."""
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + float(seconds)

    def one() -> None:
        while time.monotonic() < end:
            try:
                with socket.create_connection(PROXY.split(":"), 10) as sock:
                    sock.sendall(b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(host) + b"\0\x50")
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    data = b""
                    while piece := sock.recv(4096):
                        data += piece
                if len(data) > 3 and data[3]:
                    counts[f"refused {data[3]}"] += 1
                    time.sleep(0.01)
                else:
                    counts[data.rpartition(b"\r\n\r\n")[2].decode()] += 1
            except OSError as error:
                counts[repr(error)] += 1

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    {f.__name__: f for f in (requests, httpx, aiohttp, udp, load)}[sys.argv[1]](*sys.argv[3:])

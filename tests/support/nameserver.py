"""A name server that answers, changes its mind, or stays silent; and the way to ask it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections import Counter, defaultdict

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

from tunnelkit.net.resolve import Answer

__all__ = ["NameServer"]


class NameServer:
    """Serves UDP on 127.0.0.1 from a thread of its own, until closed."""

    def __init__(self, *, port: int = 0) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        """By name: what is answered first, second, …; the last of them for ever."""
        self.dead: set[str] = set()
        """Names that are not answered for."""
        self.asked: Counter[str] = Counter()
        """How often each name has been asked for, in both families together."""
        self._queries: defaultdict[str, set[int]] = defaultdict(set)
        self._closed = threading.Event()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", port))
        self.address: tuple[str, int] = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve, name="name server")
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait until the threads of resolvers have given up, which wait for an answer."""
        self.stop()
        for thread in threading.enumerate():
            if thread.name.startswith("resolve "):
                thread.join(5)

    def stop(self) -> None:
        """Answer no more."""
        self._closed.set()
        self._sock.sendto(b"", self.address)
        self._thread.join()
        self._sock.close()

    def lookup(self, host: str) -> Answer:
        """What :func:`tunnelkit.net.resolve.getaddrinfo` does, asking this server alone."""
        found: Answer = []
        for kind, family in (("AAAA", socket.AF_INET6), ("A", socket.AF_INET)):
            for record in self._ask(host, kind).rr:
                rest = (0, 0) if family == socket.AF_INET6 else ()
                found.append((family, (str(ipaddress.ip_address(str(record.rdata))), 0, *rest)))
        if not found:
            raise OSError("Name or service not known")
        return found

    def _ask(self, host: str, kind: str) -> DNSRecord:
        question = DNSRecord.question(host, kind)
        deadline = time.monotonic() + 30
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.05)
            sock.sendto(question.pack(), self.address)
            while not self._closed.is_set() and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    return DNSRecord.parse(sock.recv(4096))
        raise OSError("Temporary failure in name resolution")

    def _serve(self) -> None:
        while True:
            data, peer = self._sock.recvfrom(4096)
            if self._closed.is_set():
                return
            reply = self._reply(DNSRecord.parse(data))
            if reply is not None:
                self._sock.sendto(reply.pack(), peer)

    def _reply(self, query: DNSRecord) -> DNSRecord | None:
        name = str(query.q.qname).removesuffix(".").lower()
        kind = query.q.qtype
        if kind == QTYPE.A or name in self.dead:
            self.asked[name] += 1
        if name in self.dead:
            return None
        reply = query.reply()
        answers = self.answers.get(name)
        if answers is None:
            reply.header.rcode = RCODE.NXDOMAIN
            return reply
        # Both families of one lookup get the same answer; the A record is asked for last.
        current = answers[0]
        if kind == QTYPE.A and len(answers) > 1:
            answers.pop(0)
        for text in current:
            is_ipv6 = ":" in text
            if is_ipv6 == (kind == QTYPE.AAAA):
                rdata = AAAA(ipaddress.IPv6Address(text).exploded) if is_ipv6 else A(text)
                reply.add_answer(RR(name, kind, rdata=rdata, ttl=0))
        return reply

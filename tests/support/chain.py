"""A whole stream in one loop: visitor – relay's side – channel – agent's side – service, all on TCP.

The test holds both plain ends; what lies between is the product's own byte path.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Self

from tunnelkit.net.pump import Join, Pump
from tunnelkit.net.sockets import tune
from tunnelkit.transport.channels import AcceptorChannel, OpenerChannel
from tunnelkit.wire.messages import Cancel, Message, Open


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets. Resets work on these, unlike on AF_UNIX."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        two, _ = server.accept()
    for sock in (one, two):
        sock.setblocking(False)
        tune(sock)
    return one, two


class Chain:
    """``visitor`` and ``service`` are the test's; ``relay`` and ``agent`` the two channels."""

    def __init__(
        self, *, splice: bool = True, random_mask: bool = False, stall_timeout: float = 300.0
    ) -> None:
        loop = asyncio.get_running_loop()
        self.relay_pump = Pump(loop, splice=splice, stall_timeout=stall_timeout)
        self.agent_pump = Pump(loop, splice=splice, stall_timeout=stall_timeout)
        relay_end, agent_end = tcp_pair()
        self.relay = OpenerChannel(self.relay_pump, relay_end, 1, self)
        self.agent = AcceptorChannel(self.agent_pump, agent_end, 1, self, random_mask=random_mask)
        self.free = asyncio.Event()
        self.gone = asyncio.Event()
        self.cancels: list[Cancel] = []
        self.codes: dict[str, str | None] = {}
        self.finished = {"relay": asyncio.Event(), "agent": asyncio.Event()}
        self.refuse = False
        self._stream = 0
        self.relay.start()
        self.agent.start()

    def open(self) -> tuple[socket.socket, socket.socket]:
        """Open a stream; its two plain ends."""
        self._stream += 1
        self.free.clear()
        for event in self.finished.values():
            event.clear()
        self.codes.clear()
        self.visitor, inside = tcp_pair()
        self.service, self._service_inside = tcp_pair()
        self.relay_join = Join(self.relay_pump, inside, self.relay, self._done("relay"))
        self.relay.open(Open(self._stream, 1, "visitor:1"), self.relay_join)
        self.relay_join.start()
        return self.visitor, self.service

    def _done(self, side: str):
        def done(join: Join, code: str | None) -> None:
            assert side not in self.codes, "on_done is called once"
            self.codes[side] = code
            self.finished[side].set()

        return done

    # OpenerOwner and AcceptorOwner at once

    def stream_opened(self, channel: AcceptorChannel, request: Open) -> None:
        if self.refuse:
            self._service_inside.close()
            channel.refuse("service_refused", "nothing there")
            return
        channel.accept()
        self.agent_join = Join(self.agent_pump, self._service_inside, channel, self._done("agent"))
        channel.use(self.agent_join)
        self.agent_join.start()

    def channel_answered(self, channel: OpenerChannel) -> None: ...

    def channel_free(self, channel: OpenerChannel) -> None:
        self.free.set()

    def channel_gone(self, channel: OpenerChannel | AcceptorChannel) -> None:
        self.gone.set()

    def send(self, message: Message) -> bool:
        assert isinstance(message, Cancel)
        self.cancels.append(message)
        other = self.agent if self.relay.closed or message.code == "from-relay" else self.relay
        other.cancelled(message.stream, message.code, message.sent)
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for channel in (self.relay, self.agent):
            channel.lost("test")
        for pump in (self.relay_pump, self.agent_pump):
            pump.close()
        for name in ("visitor", "service", "_service_inside"):
            if hasattr(self, name):
                getattr(self, name).close()


async def read_all(sock: socket.socket) -> bytes:
    """All bytes to the end."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while piece := await loop.sock_recv(sock, 1 << 20):
        data += piece
    return bytes(data)


async def send_and_end(sock: socket.socket, data: bytes) -> None:
    """Send all of ``data``, then end this direction."""
    await asyncio.get_running_loop().sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)

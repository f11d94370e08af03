"""An agent and a relay that say what the test tells them: the protocol, raw, over real connections.

::

    async with ScriptedAgent(relay.url) as agent:
        control = await agent.connect()
        tunnel, channel = await agent.tunnel(control, Request(1, "tcp"))
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, TypeVar

import msgspec

from tunnelkit.agent import Agent
from tunnelkit.net.listen import Listener, bind
from tunnelkit.net.sockets import tune
from tunnelkit.net.tasks import Tasks
from tunnelkit.transport.websocket import Handshake, connect, handshake_accepted
from tunnelkit.wire.frames import FrameReader, Opcode, frame
from tunnelkit.wire.messages import (
    CHANNEL_PATH,
    CONTROL_PATH,
    SESSION_HEADER,
    ChannelMessage,
    ControlToAgent,
    ControlToRelay,
    End,
    Hello,
    Message,
    Need,
    Open,
    Opened,
    Ready,
    Request,
    Tunnel,
    Welcome,
    encode,
)
from tunnelkit.wire.relay_url import RelayUrl

PATIENCE = 15.0  # seconds for one step of a test; two busy cores need a fraction of it

M = TypeVar("M", bound=Message)

_decode = msgspec.json.Decoder(ControlToAgent | ControlToRelay | ChannelMessage).decode


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


class Peer:
    """One WebSocket connection in the test's hand; ``received`` came behind the handshake."""

    def __init__(self, sock: socket.socket, *, client: bool, received: bytes = b"") -> None:
        sock.setblocking(False)
        tune(sock)
        self.sock = sock
        self.payload = bytearray()
        """All payload so far."""
        self.pings = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(masked=not client)
        self._texts: list[bytes] = []
        self._take(received)

    async def say(self, *parts: Message | bytes) -> None:
        """Send messages; bytes go out as they are."""
        async with asyncio.timeout(PATIENCE):
            for part in parts:
                data = part if isinstance(part, bytes) else self.frame(encode(part), Opcode.TEXT)
                await self._loop.sock_sendall(self.sock, data)

    def frame(self, payload: bytes, opcode: int = Opcode.BINARY) -> bytes:
        """One frame as this side has to send it."""
        return frame(payload, opcode, os.urandom(4) if self._client else None)

    async def hear(self, kind: type[M]) -> M:
        """The next message of ``kind``; others are passed over. Raises EOFError at the end."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._texts:
                    message = _decode(self._texts.pop(0))
                    if isinstance(message, kind):
                        return message
                if not await self._more():
                    raise EOFError(f"no {kind.__name__}")

    async def hear_payload(self, count: int) -> bytes:
        """The first ``count`` payload bytes of the connection."""
        async with asyncio.timeout(PATIENCE):
            while len(self.payload) < count:
                if not await self._more():
                    raise EOFError(f"{len(self.payload)} bytes of {count}")
        return bytes(self.payload[:count])

    async def end(self) -> int | None:
        """Wait for the end of the connection, however it comes; the code of the close frame, if any."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while await self._more():
                    pass
        return self.close_code

    async def _more(self) -> bool:
        data = await self._loop.sock_recv(self.sock, 1 << 16)
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._reader.feed(data):
            if opcode == Opcode.TEXT:
                self._texts.append(bytes(payload))
            elif opcode == Opcode.BINARY:
                self.payload += payload
            elif opcode == Opcode.PING:
                self.pings += 1
            elif opcode == Opcode.CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
                self.close_reason = bytes(payload[2:]).decode()

    def close(self) -> None:
        self.sock.close()


async def dial(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class ScriptedAgent:
    """An agent in the test's hand: ``async with``, which closes what it opened."""

    def __init__(self, url: str, *, token: str = "", identity: str = "scripted") -> None:
        self.url = RelayUrl.parse(url)
        self.token = token
        self.identity = identity
        self.session = ("", "")
        self._channels = 0
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()

    async def control(self) -> Peer:
        """A control connection, before hello."""
        return await self.shake_hands(CONTROL_PATH, {})

    async def connect(self, *, resume: bool = False) -> Peer:
        """A control connection that has been greeted; ``resume`` takes the last session up again."""
        control = await self.control()
        await control.say(Hello(self.identity, "0", *(self.session if resume else ("", ""))))
        self.welcome = await control.hear(Welcome)
        self.session = (self.welcome.session, self.welcome.secret)
        return control

    async def channel(self, number: int, *, session: str = "", secret: str = "") -> Peer:
        """A data channel, of the last session unless another is named."""
        own, proof = self.session
        header = f"{session or own}:{secret or proof}:{number}"
        return await self.shake_hands(CHANNEL_PATH, {SESSION_HEADER: header})

    async def tunnel(self, control: Peer, request: Request) -> tuple[Tunnel, Peer]:
        """Have a tunnel opened, its probe answered over a new channel; that channel is free then."""
        await control.say(request)
        await control.hear(Need)
        self._channels += 1
        channel = await self.channel(self._channels)
        opened = await channel.hear(Open)
        assert opened.probe
        await channel.say(Opened(opened.stream), channel.frame(opened.probe.encode()), End(len(opened.probe)))
        await channel.hear(End)
        await channel.say(Ready(opened.stream))
        return await control.hear(Tunnel), channel

    async def shake_hands(self, path: str, headers: dict[str, str]) -> Peer:
        """A connection at ``path``. Raises what the relay says if it refuses."""
        sock = await dial(self.url.host, self.url.port)
        if self.token:
            headers = {"Authorization": f"Bearer {self.token}", **headers}
        try:
            async with asyncio.timeout(PATIENCE):
                handshake = Handshake(self.url.host, self.url.port, path, False, headers)
                _, received = await connect(sock, handshake)
        except BaseException:
            sock.close()
            raise
        peer = Peer(sock, client=True, received=received)
        self._peers.append(peer)
        return peer


class ScriptedRelay:
    """A relay in the test's hand: ``async with``; its connections come in by :meth:`control` and
    :meth:`channel`, in the order of their handshakes."""

    async def __aenter__(self) -> Self:
        self._listener = Listener(asyncio.get_running_loop(), bind("127.0.0.1", 0), self._accept)
        self.url = f"ws://127.0.0.1:{self._listener.port}"
        self.handshakes: list[bytes] = []
        """The heads of all, in full."""
        self._peers: list[Peer] = []
        self._controls: asyncio.Queue[Peer] = asyncio.Queue()
        self._channels: asyncio.Queue[Peer] = asyncio.Queue()
        self._tasks = Tasks("scripted relay")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._tasks.close()
        for peer in self._peers:
            peer.close()

    def _accept(self, sock: socket.socket, address: object) -> None:
        peer = Peer(sock, client=False)
        self._peers.append(peer)
        self._tasks.spawn(self._shake_hands(peer), "handshake")

    async def _shake_hands(self, peer: Peer) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += (piece := await asyncio.get_running_loop().sock_recv(peer.sock, 1 << 16))
            if not piece:
                return
        self.handshakes.append(head)
        await peer.say(handshake_accepted(head)[1])
        queue = self._controls if f"GET {CONTROL_PATH} ".encode() in head else self._channels
        queue.put_nowait(peer)

    async def control(self) -> Peer:
        """The next control connection, which has not been greeted yet."""
        async with asyncio.timeout(PATIENCE):
            return await self._controls.get()

    async def channel(self) -> Peer:
        """The next data channel."""
        async with asyncio.timeout(PATIENCE):
            return await self._channels.get()

    @contextlib.asynccontextmanager
    async def greeting(self, agent: Agent, **terms: Any) -> AsyncIterator[tuple[Peer, Hello]]:
        """Have ``agent`` start, greet it, and close it at the end."""
        starting = asyncio.create_task(agent.start())
        control, hello = await self.greet(**terms)
        await starting
        try:
            yield control, hello
        finally:
            await agent.close()

    async def greet(self, *, resumed: bool = False, **terms: Any) -> tuple[Peer, Hello]:
        """Take the next control connection and greet its agent; both, and its hello."""
        control = await self.control()
        hello = await control.hear(Hello)
        await control.say(Welcome("session", "secret", resumed, **terms))
        return control, hello

"""TLS against other implementations: the standard library's blocking SSLSocket, and openssl(1)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support import Certificate, certificate
from tunnelkit.net.sockets import receive, send_all
from tunnelkit.net.tls import TlsSocket, client_context, start_client

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

DATA = bytes(range(256)) * 8000  # 2 MB: more than any kernel buffer between two sockets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=10)
        far, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(10)
    return near, far


def answer_after_the_end(peer: ssl.SSLSocket) -> None:
    """Read all of the request before the first byte of the answer, which repeats it."""
    with peer:
        request = bytearray()
        while piece := peer.recv(65536):
            request += piece
        peer.sendall(request)
        peer.unwrap()


def answer_and_break(peer: ssl.SSLSocket) -> None:
    """Answer in part and end TCP without close_notify."""
    with peer:
        peer.recv(65536)
        peer.sendall(b"part")


async def read_to_end(tls: TlsSocket) -> bytes:
    received = bytearray()
    while piece := await receive(tls, 65536):
        received += piece
    return bytes(received)


def as_server(far: socket.socket, context: ssl.SSLContext, act: Callable[[ssl.SSLSocket], None]) -> None:
    act(context.wrap_socket(far, server_side=True))


def as_client(far: socket.socket, context: ssl.SSLContext, act: Callable[[ssl.SSLSocket], None]) -> None:
    act(context.wrap_socket(far, server_hostname="localhost"))


@pytest.mark.parametrize("version", TLS_VERSIONS)
async def test_a_stdlib_server_answers_after_our_half_close(made, version) -> None:
    near, far = tcp_pair()
    context = made.server_context()
    context.maximum_version = version
    serving = asyncio.to_thread(as_server, far, context, answer_after_the_end)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(serving)
        tls = await start_client(near, client_context(str(made.ca)), host="localhost", timeout=10)
        await send_all(tls, DATA)
        tls.shutdown(socket.SHUT_WR)
        assert await read_to_end(tls) == DATA
    tls.close()


@pytest.mark.parametrize("version", TLS_VERSIONS)
async def test_a_stdlib_client_half_closes_and_gets_our_answer(made, version) -> None:
    def request(peer: ssl.SSLSocket) -> None:
        with peer:
            peer.sendall(DATA)
            peer.unwrap()  # sends close_notify, waits for ours

    near, far = tcp_pair()
    context = made.client_context()
    context.maximum_version = version
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(as_client, far, context, request))
        tls = TlsSocket(near, made.server_context(), server_side=True)
        await tls.handshake(10)
        assert await read_to_end(tls) == DATA
        tls.shutdown(socket.SHUT_WR)
    tls.close()


@pytest.mark.parametrize("version", TLS_VERSIONS)
async def test_a_stdlib_server_that_breaks_off_is_a_truncation(made, version) -> None:
    near, far = tcp_pair()
    context = made.server_context()
    context.maximum_version = version
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(as_server, far, context, answer_and_break))
        tls = await start_client(near, client_context(str(made.ca)), host="localhost", timeout=10)
        await send_all(tls, b"request")
        assert await receive(tls, 100) == b"part"
        with pytest.raises(ConnectionAbortedError, match="close_notify"):
            await receive(tls, 100)
    tls.close()


@pytest.mark.needs("openssl")
async def test_new_keys_in_mid_stream_go_unnoticed(made) -> None:
    """openssl(1) asks for a key update on a line K (RFC 8446 §4.6.3): its and ours change."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        command = f"openssl s_client -tls1_3 -connect 127.0.0.1:{listener.getsockname()[1]}"
        client = await asyncio.create_subprocess_exec(
            *command.split(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        near, _ = await asyncio.get_running_loop().sock_accept(listener)
    tls = TlsSocket(near, made.server_context(), server_side=True)
    try:
        async with asyncio.timeout(10):
            await tls.handshake(10)
            for line in (b"one\n", b"two\n"):
                client.stdin.write(line)
                assert await receive(tls, 100) == line
                await send_all(tls, b"echo " + line)
                await client.stdout.readuntil(b"echo " + line)
                client.stdin.write(b"K\n")
                await client.stdout.readuntil(b"KEYUPDATE\n")
    finally:
        tls.close()
        with suppress(ProcessLookupError):
            client.kill()
        await client.communicate()

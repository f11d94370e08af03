"""Through a SOCKS5 proxy of somebody else's making: ``ssh -D``."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import free_port, program, run, start_process
from tunnelkit.errors import OutboundProxyError
from tunnelkit.net.dial import Resolver
from tunnelkit.net.outbound import ProxyUrl, dial_relay
from tunnelkit.net.sockets import receive, send_all

pytestmark = pytest.mark.needs("ssh", "sshd")


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ProxyUrl]:
    """``ssh -D`` through an sshd, both of this test."""
    key, sshd_port, port = tmp_path / "key", free_port(), free_port()
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    sshd = [
        program("sshd"), "-D", "-e", "-f", "/dev/null", "-p", str(sshd_port), "-h", key,
        "-o", "ListenAddress=127.0.0.1", "-o", f"AuthorizedKeysFile={key}.pub",
        "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none",
    ]  # fmt: skip
    ssh = [
        program("ssh"), "-F", "none", "-N", "-D", f"127.0.0.1:{port}", "-p", str(sshd_port), "-i", key,
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes", f"{getpass.getuser()}@127.0.0.1",
    ]  # fmt: skip
    async with start_process(sshd, ready=sshd_port), start_process(ssh, ready=port):
        yield ProxyUrl("socks5", "127.0.0.1", port)


async def test_a_relay_is_reached_by_name_through_ssh(proxy: ProxyUrl) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.readline())
        await writer.drain()
        writer.close()

    resolver = Resolver()
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, asyncio.timeout(15):
        port = server.sockets[0].getsockname()[1]
        sock, rest = await dial_relay("localhost", port, proxy=proxy, resolver=resolver, timeout=10)
        with sock:
            await send_all(sock, b"hello\n")
            while (piece := await receive(sock, 100)) and not rest.endswith(b"\n"):
                rest += piece
        assert rest == b"got hello\n"
    with pytest.raises(OutboundProxyError, match="closed the connection instead of connecting"):
        await dial_relay("localhost", port, proxy=proxy, resolver=resolver, timeout=10)

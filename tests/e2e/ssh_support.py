"""A relay that speaks SSH, in this loop, and real OpenSSH clients of it.

::

    async with ssh_relay(tmp_path) as site:
        async with site.ssh("-R", f"app:80:localhost:{service.port}") as client:
            await client.expect_async(r"^http://app\\.t\\.test")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.http_support import Message, Wire
from tests.e2e.tcp_support import no_failures
from tests.support.addresses import free_port_range
from tests.support.processes import Child, start_process
from tests.support.programs import program
from tests.support.scripted import dial
from tests.support.sshd import make_key
from tunnelkit.relay import Limits, Relay, RelaySsh

PORTS = free_port_range(20)


@dataclass
class SshSite:
    """A running relay; ``key`` is a private key that it lets in."""

    relay: Relay
    key: Path
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Of the port that SSH shares with HTTP."""
        return self.relay.addresses[0][1]

    @property
    def ssh_port(self) -> int:
        return self.relay.ssh_addresses[0][1]

    def argv(self, *arguments: str, user: str = "me", port: int = 0, key: Path | None = None) -> list[str]:
        """``ssh``, with nothing of this machine's configuration; options of the command come last."""
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "LogLevel": "INFO",
        }
        argv = [program("ssh"), "-F", "/dev/null", "-i", str(key or self.key), "-p", str(port or self.port)]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        split = arguments.index("--") if "--" in arguments else len(arguments)
        return [*argv, *arguments[:split], f"{user}@127.0.0.1", *arguments[split + 1 :]]

    def ssh(self, *arguments: str, ready: str | None = None, **options: Any) -> Child:
        """An ssh client: its options, then after ``--`` the words of its command."""
        return start_process(self.argv(*arguments, **options), ready=ready)

    async def ask(self, name: str, path: str = "/") -> Message:
        """The answer to a visitor of the HTTP tunnel ``name``."""
        wire = Wire(await dial("127.0.0.1", self.port))
        self.wires.append(wire)
        return await wire.ask(f"GET {path} HTTP/1.1\r\nHost: {name}.t.test\r\n\r\n".encode())

    async def visit(self, port: int) -> Wire:
        """A visitor of a TCP tunnel."""
        wire = Wire(await dial("127.0.0.1", port))
        self.wires.append(wire)
        return wire


@asynccontextmanager
async def ssh_relay(
    directory: Path,
    *,
    rules: str = "",
    tokens: tuple[str, ...] = (),
    anyone: bool = False,
    domain: str = "t.test",
    limits: Limits | None = None,
) -> AsyncIterator[SshSite]:
    """A relay for the key in ``directory``, whose entry begins with ``rules``."""
    key = directory / "client"
    if not key.exists():
        await make_key(key)
    authorized = directory / "authorized"
    authorized.write_text(f"{rules} {key.with_suffix('.pub').read_text()}".lstrip())
    ssh = RelaySsh(
        host_key=str(directory / "relay_host_key"),
        listen=["127.0.0.1:0"],
        authorized_keys="" if anyone else str(authorized),
    )
    async with (
        no_failures(),
        Relay(
            listen="127.0.0.1:0",
            domain=domain,
            tcp_ports=PORTS,
            tokens=tokens,
            anyone=anyone,
            ssh=ssh,
            limits=limits,
        ) as relay,
    ):
        site = SshSite(relay, key)
        try:
            yield site
        finally:
            for wire in site.wires:
                wire.close()

"""Debian's own sshd as an ordinary process, with keys that the test made.

::

    async with sshd(tmp_path, AllowTcpForwarding="no") as server:
        Agent(server.url, ssh=server.trust)
"""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.addresses import free_port
from tests.support.processes import Child, run, start_process
from tests.support.programs import program
from tunnelkit.transport.ssh_options import SshOptions


@dataclass(frozen=True)
class Sshd:
    """A running sshd. ``key`` is the private key that it lets in."""

    port: int
    key: Path
    host_key: str
    """Its fingerprint."""
    public_host_key: str
    child: Child

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, for a Forwarder."""
        return [("127.0.0.1", self.port)]

    @property
    def url(self) -> str:
        return f"ssh+openssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def trust(self) -> SshOptions:
        """Key and host key, by which an agent and it know each other."""
        return SshOptions(identity_file=str(self.key), host_key=self.host_key)


def kill_with_sessions(pid: int) -> None:
    """End an sshd and the processes of its connections, at once."""
    with suppress(FileNotFoundError, ProcessLookupError):  # some end by themselves meanwhile
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)
        for child in children:
            kill_with_sessions(int(child))


async def make_key(path: Path, *, passphrase: str = "") -> Path:
    """A new key pair."""
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path)
    return path


async def fingerprint(path: Path) -> str:
    """What ``ssh-keygen -l`` says of a key."""
    return (await run("ssh-keygen", "-l", "-f", path)).stdout.decode().split()[1]


@asynccontextmanager
async def sshd(directory: Path, *, port: int = 0, **options: str) -> AsyncIterator[Sshd]:
    """An sshd on 127.0.0.1 with ``options`` of sshd_config(5), and keys in ``directory``."""
    key, host = directory / "key", directory / "host"
    for path in (key, host):
        if not path.exists():
            await make_key(path)
    Path("/run/sshd").mkdir(exist_ok=True)  # where it keeps nothing, and asks for all the same
    port = port or free_port()
    settings = {
        "ListenAddress": "127.0.0.1",
        "AddressFamily": "inet",  # a port for both families is sometimes one for IPv6 alone
        "AuthorizedKeysFile": f"{key}.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "MaxStartups": "1000",
        "PasswordAuthentication": "no",
        **options,
    }
    argv = [program("sshd"), "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", str(host)]
    for name, value in settings.items():
        argv += ["-o", f"{name}={value}"]
    async with start_process(argv, ready=rf"listening on \S+ port {port}") as child:
        public = " ".join(host.with_suffix(".pub").read_text().split()[:2])
        try:
            yield Sshd(port, key, await fingerprint(host), public, child)
        finally:
            if child.running:  # its connections would outlive it
                kill_with_sessions(child.pid)

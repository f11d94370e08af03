"""OpenSSH: an ``sshd`` of our own and ``ssh -R``, with the ciphers they agree on by themselves.

sshd says when it listens; for a remote port of 0, ssh says which port it was given.
"""

from __future__ import annotations

import contextlib
import getpass
import os
from pathlib import Path

from benchmarks.model import LOOPBACK, Address, BenchmarkError, Mode, Peer, Security
from benchmarks.processes import Launcher, find, free_address

CONFIGURATION = """\
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
AllowTcpForwarding yes
"""

# Where sshd, run as root, shuts in the process that talks to strangers.
PRIVILEGE_SEPARATION = Path("/run/sshd")


def serve(launch: Launcher) -> Address:
    """An sshd that lets ``user_key`` in, and where it listens."""
    for name in ("host_key", "user_key"):
        path = str(launch.directory / name)
        launch.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).result(10)
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    address = free_address()
    text = CONFIGURATION.format(address=address, directory=launch.directory)
    sshd = find("sshd")
    if sshd is None:
        raise BenchmarkError("sshd is not installed")
    # It starts itself again for every connection, and insists on its full path for that.
    server = launch.run(sshd, "-D", "-e", "-f", launch.write("sshd_config", text))
    server.expect("^Server listening")
    return address


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    address = serve(launch)
    client = launch.run(
        "ssh", "-N", "-F", "none",
        "-i", str(launch.directory / "user_key"),
        "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null",
        "-o", "ExitOnForwardFailure=yes",
        "-p", str(address.port),
        "-R", f"{LOOPBACK}:0:{service}",
        f"{getpass.getuser()}@{address.host}",
    )  # fmt: skip
    allocated = client.expect(r"^Allocated port (\d+) for remote forward")
    return Address(LOOPBACK, int(allocated[1]))


PEER = Peer(
    name="ssh-R",
    about="sshd and ssh -R",
    security=Security.SSH,
    modes=frozenset({Mode.TCP}),
    start=start,
    hops=2,
    quick=True,
    programs=("sshd", "ssh", "ssh-keygen"),
    version=("ssh", "-V"),
)

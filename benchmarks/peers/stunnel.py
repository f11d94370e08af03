"""stunnel at both ends of a static tunnel: plain text to the first, TLS between the two, plain text
to the service. The second one's certificate is verified (https://www.stunnel.org/static/stunnel.html).

It logs every connection at the level at which it says that it is ready, so its ports are tried.
"""

from __future__ import annotations

from benchmarks.certificates import certificate
from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address

COMMON = """\
foreground = yes
pid =
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""

SERVER = """\
[tunnel]
accept = {middle}
connect = {service}
cert = {certificate}
key = {key}
"""

CLIENT = """\
[tunnel]
client = yes
accept = {public}
connect = {middle}
CAfile = {certificate}
verifyPeer = yes
"""


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    middle, public = free_address(), free_address()
    cert, key = certificate(launch)
    text = COMMON + SERVER.format(middle=middle, service=service, certificate=cert, key=key)
    _run(launch, "server.conf", text, middle)
    text = COMMON + CLIENT.format(middle=middle, public=public, certificate=cert)
    _run(launch, "client.conf", text, public)
    return public


def _run(launch: Launcher, name: str, text: str, listening: Address) -> Process:
    process = launch.run("stunnel4", launch.write(name, text))
    process.expect_listening(listening)
    return process


PEER = Peer(
    name="stunnel",
    about="two hops, TLS between them",
    security=Security.TLS,
    modes=frozenset({Mode.TCP}),
    start=start,
    hops=2,
    programs=("stunnel4", "openssl"),
    version=("stunnel4", "-version"),
)

"""frp as it comes (TLS and one multiplexed connection), and without both
(https://github.com/fatedier/frp/blob/dev/conf/frpc_full_example.toml).

Below warnings it logs every connection, so readiness is seen from outside: frps listens on a TCP
proxy's port, or routes an HTTP proxy's host, once frpc has registered it.
"""

from __future__ import annotations

import secrets
from functools import partial

from benchmarks.model import PUBLIC_NAME, Address, Mode, Peer, Security
from benchmarks.processes import Launcher, Process, free_address

SERVER = """\
bindAddr = "{listen.host}"
bindPort = {listen.port}
proxyBindAddr = "{public.host}"
auth.token = "{token}"
log.level = "warn"
"""
VHOST = "vhostHTTPPort = {public.port}\n"

CLIENT = """\
serverAddr = "{listen.host}"
serverPort = {listen.port}
auth.token = "{token}"
log.level = "warn"
"""
PLAIN_CLIENT = "transport.tls.enable = false\n"
PLAIN_BOTH = "transport.tcpMux = false\n"

PROXY = """
[[proxies]]
name = "service"
type = "{mode}"
localIP = "{service.host}"
localPort = {service.port}
"""
TCP = "remotePort = {public.port}\n"
HTTP = 'customDomains = ["{name}"]\n'


def start(launch: Launcher, mode: Mode, service: Address, *, plain: bool) -> Address:
    listen, public = free_address(), free_address()
    token = secrets.token_hex(16)
    both = PLAIN_BOTH if plain else ""
    server = (SERVER + (VHOST if mode is Mode.HTTP else "") + both).format(
        listen=listen, public=public, token=token
    )
    client = (CLIENT + (PLAIN_CLIENT if plain else "") + both + PROXY).format(
        listen=listen, token=token, mode=mode, service=service
    )
    client += HTTP.format(name=PUBLIC_NAME) if mode is Mode.HTTP else TCP.format(public=public)

    def relay() -> Process:
        frps = launch.run("frps", "-c", launch.write("frps.toml", server))
        frps.expect_listening(listen)
        return frps

    launch.serve(relay)
    frpc = launch.run("frpc", "-c", launch.write("frpc.toml", client))
    if mode is Mode.HTTP:
        frpc.expect_answer(public, host=PUBLIC_NAME)
    else:
        frpc.expect_listening(public)
    return public


def _peer(name: str, about: str, security: Security, *, plain: bool) -> Peer:
    return Peer(
        name=name,
        about=about,
        security=security,
        modes=frozenset(Mode),
        start=partial(start, plain=plain),
        hops=2,
        programs=("frps", "frpc"),
        version=("frps", "--version"),
        reconnects=True,
    )


DEFAULT = _peer("frp", "its defaults: TLS, multiplexed", Security.TLS, plain=False)
PLAIN = _peer("frp-plain", "no TLS, no multiplexing", Security.PLAIN, plain=True)

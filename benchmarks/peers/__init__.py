"""The peers, in the order of the tables. One file each, and one line here."""

from __future__ import annotations

from benchmarks.model import Peer
from benchmarks.peers import (
    bore,
    chisel,
    direct,
    frp,
    haproxy,
    nginx,
    openssh,
    piko,
    rathole,
    sish,
    socat,
    stunnel,
    tunnelkit,
    tunnelkit_ssh,
    tunnelkit_stock,
    tunnelkit_wss,
    wstunnel,
)

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        direct.PEER,
        tunnelkit.PEER,
        haproxy.PEER,
        nginx.PEER,
        socat.PEER,
        stunnel.PEER,
        tunnelkit_wss.PEER,
        openssh.PEER,
        tunnelkit_stock.PEER,
        tunnelkit_ssh.PEER,
        tunnelkit_ssh.OPENSSH,
        bore.PEER,
        chisel.PEER,
        frp.DEFAULT,
        frp.PLAIN,
        piko.PEER,
        rathole.PLAIN,
        rathole.NOISE_PROTOCOL,
        sish.PEER,
        wstunnel.WS,
        wstunnel.WSS,
    )
}

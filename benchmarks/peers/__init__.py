"""The peers, in the order of the tables. One file each, and one line here."""

from __future__ import annotations

from benchmarks.model import Peer
from benchmarks.peers import direct, haproxy, nginx, openssh, socat, tunnelkit, tunnelkit_ssh, tunnelkit_stock

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        direct.PEER,
        tunnelkit.PEER,
        haproxy.PEER,
        nginx.PEER,
        openssh.PEER,
        tunnelkit_stock.PEER,
        tunnelkit_ssh.PEER,
        tunnelkit_ssh.OPENSSH,
        socat.PEER,
    )
}

"""The peers, in the order of the tables. One file each, and one line here."""

from __future__ import annotations

from benchmarks.model import Peer
from benchmarks.peers import direct, haproxy, nginx, openssh, socat, tunnelkit

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        direct.PEER,
        tunnelkit.PEER,
        haproxy.PEER,
        nginx.PEER,
        openssh.PEER,
        socat.PEER,
    )
}

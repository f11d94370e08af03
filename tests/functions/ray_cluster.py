"""A Ray cluster of two nodes on this machine, for as long as standard input is open: ``python … DIRECTORY``.

The first line of output is its address. Both nodes are on loopback, with addresses that Ray does not
take for the machine's own; the node of zone ``us-east-1`` has one CPU.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

EUROPE, AMERICA = "127.0.0.2", "127.0.0.3"


def main() -> None:
    head = {
        "num_cpus": 2,
        "labels": {"ray.io/zone": "eu-west-1", "ray.io/region": "eu"},
        "node_ip_address": EUROPE,
        "include_dashboard": False,
        "temp_dir": sys.argv[1],
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    labels = {"ray.io/zone": "us-east-1", "ray.io/region": "us"}
    cluster.add_node(num_cpus=1, labels=labels, node_ip_address=AMERICA)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()

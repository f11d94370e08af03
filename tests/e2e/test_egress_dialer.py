"""The dialer where addresses come and go, ports run out and names rebind: in network namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.egress_scenarios import SCENARIOS
from tests.support.programs import program

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.needs("unshare", "ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are for root"),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_a_network_namespace(name: str, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    inside = 'mount --bind "$1" /etc/resolv.conf && exec "$2" -m tests.e2e.egress_scenarios "$3"'
    arguments = [str(tmp_path / "resolv.conf"), sys.executable, name]
    ran = subprocess.run(
        [program("unshare"), "--net", "--mount", "sh", "-ec", inside, "sh", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr

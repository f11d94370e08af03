"""Two network namespaces: functions in one of them, and servers that tell what they see in the other."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import Child, start_process
from tests.support.programs import SEARCH_PATH, program

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent

PIN, OTHER, SERVER = "203.0.113.7", "203.0.113.2", "203.0.113.1"
PIN6, OTHER6, SERVER6 = "2001:db8::7", "2001:db8::2", "2001:db8::1"
"""The system leaves from the other one by itself."""


def ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, timeout=10)


class Network:
    """The near side has the pins; ``directory`` is served as a git repository."""

    def __init__(self, directory: Path) -> None:
        self.near, self.far = f"tk-pin-near-{os.getpid()}", f"tk-pin-far-{os.getpid()}"
        self._directory = directory
        self._children = contextlib.ExitStack()
        self.reporter: Child

    def open(self) -> None:
        for name in (self.near, self.far):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "veth0", "netns", self.near, "type", "veth", "peer", "veth0", "netns", self.far)
        for name, addresses in (
            (self.near, (f"{OTHER}/24", f"{PIN}/24", f"{OTHER6}/64", f"{PIN6}/64")),
            (self.far, (f"{SERVER}/24", f"{SERVER6}/64")),
        ):
            for address in addresses:
                extra = ["nodad"] if ":" in address else []
                if address.startswith(PIN6):
                    extra += ["preferred_lft", "0"]
                ip("-n", name, "address", "add", address, "dev", "veth0", *extra)
            ip("-n", name, "link", "set", "veth0", "up")
        ip("-n", self.near, "route", "add", "default", "via", SERVER)
        ip("-n", self.near, "-6", "route", "add", "default", "via", SERVER6)
        reporter = ROOT / "tests/e2e/egress_reporter.py"
        argv = [program("ip"), "netns", "exec", self.far, sys.executable, reporter, self._directory]
        self.reporter = self._children.enter_context(start_process(argv, ready="ready"))

    def close(self) -> None:
        self._children.close()
        for name in (self.near, self.far):
            subprocess.run([program("ip"), "netns", "delete", name], check=False, timeout=10)

    def run(self, user: str, *argv: str | Path, timeout: float = 50) -> str:
        """Run ``scenarios.py`` as ``user``; its standard output."""
        drop: list[str | Path] = []
        if user != "root":
            # The interpreter may be in a directory that others do not look into, as root's home.
            look = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
            drop = [program("setpriv"), f"--reuid={user}", "--regid=nogroup", "--clear-groups", *look]
        command = [program("ip"), "netns", "exec", self.near, *drop, sys.executable]
        ran = subprocess.run(
            [*command, HERE / "scenarios.py", *argv],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd="/",
            env={"PATH": SEARCH_PATH, "HOME": "/tmp", "PYTHONPATH": str(ROOT)},
        )
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout.strip()

"""Calls on a Ray cluster: scheduled in this program as all calls are, with processes on the cluster."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
from collections.abc import Callable

from tunnelkit.errors import ClusterError
from tunnelkit.functions.engine import LocalEngine
from tunnelkit.functions.job import Job
from tunnelkit.functions.scheduler import Scheduler
from tunnelkit.functions.spec import Spec

try:
    import ray

    from tunnelkit.functions.ray_runner import Cluster
except ImportError as error:
    raise ClusterError(
        f"Ray cannot be used here: {error}", hint="Install it with: pip install 'tunnelkit[ray]'"
    ) from None

__all__ = ["RayEngine"]

CONNECT_TIMEOUT = 5.0
"""Seconds for the cluster's head node to accept a connection."""

WATCH_INTERVAL = 1.0
"""Seconds between looks at whether the head node is there."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What Ray takes for this machine's own address. It waits for minutes where nothing answers there."""

MISSED = 3
"""Looks in a row that fail before the cluster counts as gone. Ray itself ends the program after a minute."""


class RayEngine(LocalEngine):
    """See the module. Takes the cluster of RAY_ADDRESS, or the one that was started on this machine.

    Where the program has called ``ray.init`` itself, that connection is used, and left as it is.

    Raises ClusterError.
    """

    def __init__(self, on_line: Callable[[Spec, str, str], None], on_change: Callable[[Job], None]) -> None:
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(os.environ.get("RAY_ADDRESS", "").strip())
        self._head = ray.get_runtime_context().gcs_address
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if not cpus:
            raise ClusterError(
                f"The Ray cluster at {self._head} has no CPUs", hint="Start a node with --num-cpus=1 or more"
            )
        self._cluster = Cluster(cpus)
        super().__init__(cpus, on_line, on_change, start=self._cluster.start)
        # Ray leaves the cluster at the program's end too, and comes back for whoever still calls it then:
        # what was registered last is called first.
        atexit.register(self.close)

    async def _serve(self, scheduler: Scheduler) -> None:
        self._cluster.tasks.spawn(self._watch(), "watch")
        await super()._serve(scheduler)
        await self._cluster.tasks.close()

    async def _watch(self) -> None:
        missed = 0
        while missed < MISSED:
            await asyncio.sleep(WATCH_INTERVAL)
            missed = 0 if await _accepts(self._head) else missed + 1
        self._cluster.lose(ClusterError(f"The Ray cluster at {self._head} has gone"))

    def close(self) -> None:
        atexit.unregister(self.close)
        super().close()
        if self._ours and self._cluster.lost is None:
            self._cluster.lost = ClusterError("The program has ended")
            ray.shutdown()


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise ClusterError(
            f"RAY_ADDRESS={address} is the address of Ray's client server",
            hint="Run the program on a node of the cluster, as `ray job submit` does, and name HOST:PORT",
        )
    if address in ("", "auto"):
        address = "auto"
    elif not _accepts_now(address):
        raise ClusterError(f"There is no Ray cluster at {address}")
    try:
        # The output of functions comes with their results, and not by Ray's logs.
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = str(error).strip().splitlines() or [type(error).__name__]
        where = "on this machine" if address == "auto" else f"at {address}"
        raise ClusterError(
            f"There is no Ray cluster {where} that can be used: {what[0].rstrip('.')}"
        ) from None


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"RAY_ADDRESS={address} is no address", hint="Give HOST:PORT, or auto")
    return host.strip("[]"), int(port)


def _accepts_now(address: str) -> bool:
    host, port = _parts(address)
    if host in LOOPBACK:
        host = ray.util.get_node_ip_address()
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


async def _accepts(address: str) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(*_parts(address))
    except OSError:  # of which TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True

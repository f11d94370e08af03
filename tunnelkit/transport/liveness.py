"""Finding connections whose peer has vanished. Any byte is life; silence is asked, then ended."""

from __future__ import annotations

from collections.abc import Iterable

from tunnelkit.transport.channels import Channel
from tunnelkit.transport.websocket import Control
from tunnelkit.wire.channel import State

__all__ = ["CHECKS", "Liveness"]

CHECKS = 4
"""Checks in a ping interval: a clock for all connections together instead of one for each."""


class Liveness:
    """Pings what was silent for ``interval`` seconds, and ends it after ``timeout`` more.

    Call :meth:`check` every :attr:`period` seconds.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        self.period = interval / CHECKS
        self._quiet = CHECKS - 1  # so that a ping goes out before the interval is over
        self._dead = self._quiet + max(1, int(timeout / self.period))

    def check(self, control: Control | None, channels: Iterable[Channel]) -> None:
        """Look at each connection once."""
        if control is not None:
            control.silent += 1
            if control.silent > self._dead:
                control.drop("timeout")
            elif control.silent >= self._quiet:
                control.ping()
        for channel in list(channels):
            if channel.paused and channel.state is not State.IDLE:
                # It is not read from, so its silence is ours, and the peer's pings go unanswered. The
                # stall time-out rules here; the peer is told that this side lives.
                channel.silent = 0
                if not channel.blocked:
                    channel.pong()
                continue
            if channel.heard:
                channel.heard = False
                channel.silent = 0
                continue
            channel.silent += 1
            if channel.silent > self._dead:
                channel.lost("timeout")
            elif channel.silent >= self._quiet:
                channel.ping()

"""How long an agent waits between its tries to reach the relay again."""

from __future__ import annotations

import random

__all__ = ["STEADY", "backoff"]

BASE = 0.2
GROWTH = 1.5
"""Seconds at most before the second try, and by how much more before each one after it. Slower growth
than the usual doubling: a relay that restarts is away for a second or two, and should not be found
only as much later again."""

CAP = 5.0
PATIENCE = 600.0
LATE_CAP = 30.0
"""Tries are at most 5 s apart for ten minutes (a relay that restarts, a laptop that changes networks),
then 30 s."""

STEADY = 5.0
"""Seconds after which a connection counts as one: a relay that lets agents in only to lose them at once
is not asked more often than one that is away."""


def backoff(attempt: int, since: float) -> float:
    """Seconds before try ``attempt`` (from 0), ``since`` seconds after the connection was lost.

    The first try is made at once, the others after a random part of a time that grows: agents that
    lost one relay together do not come back together.
    """
    if attempt == 0:
        return 0.0
    cap = CAP if since < PATIENCE else LATE_CAP
    return random.uniform(0, min(cap, BASE * GROWTH ** min(attempt, 64)))  # noqa: S311 - no secret

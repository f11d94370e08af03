"""The scenarios, in the order of the report. One file each, and one line here."""

from __future__ import annotations

from benchmarks.model import Scenario
from benchmarks.scenarios import (
    agents,
    bulk,
    busy,
    calls,
    growth,
    http,
    idle,
    recovery,
    rtt,
    tcp_new,
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        http.KEEP_ALIVE,
        http.NEW,
        tcp_new.SCENARIO,
        rtt.SCENARIO,
        rtt.ONE_CORE,
        bulk.SCENARIO,
        idle.SCENARIO,
        agents.SCENARIO,
        recovery.SCENARIO,
        growth.TUNNELS,
        growth.VISITORS,
        busy.SCENARIO,
        calls.TCP,
        calls.HTTP,
        calls.BULK,
    )
}

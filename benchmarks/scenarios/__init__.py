"""The scenarios, in the order of the report. One file each, and one line here."""

from __future__ import annotations

from benchmarks.model import Scenario
from benchmarks.scenarios import bulk, http, idle, rtt, store, tcp_new

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
        store.SCENARIO,
    )
}

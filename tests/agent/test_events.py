"""What a listener may do to the agent: nothing."""

from __future__ import annotations

import logging

from tunnelkit.agent.events import Event, guarded


def test_a_listener_that_fails_is_logged_and_forgotten(caplog) -> None:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        raise RuntimeError("the display is gone")

    with caplog.at_level(logging.ERROR, logger="tunnelkit"):
        guarded(listener)(Event("connected", "Connected"))
    assert [event.kind for event in heard] == ["connected"]
    assert "the listener failed on connected" in caplog.text

from __future__ import annotations

from tunnelkit.relay import admission
from tunnelkit.relay.admission import MAX_WAITING, MAX_WAITING_EACH, PENALTY_FROM, PENALTY_MAX, Admission


def test_at_the_cap_of_an_address_its_oldest_goes() -> None:
    waiting: Admission[int] = Admission()
    assert waiting.add(-1, "192.0.2.9") is None
    victims = [waiting.add(number, "192.0.2.1") for number in range(MAX_WAITING_EACH + 2)]
    assert victims[-3:] == [None, 0, 1]
    assert len(waiting) == MAX_WAITING_EACH + 1


def test_at_the_cap_of_all_the_oldest_goes() -> None:
    waiting: Admission[int] = Admission()
    victims = [waiting.add(number, f"192.0.2.{number % 250}") for number in range(MAX_WAITING + 2)]
    assert victims[-3:] == [None, 0, 1]
    assert len(waiting) == MAX_WAITING


def test_who_is_in_or_gone_counts_no_more() -> None:
    waiting: Admission[int] = Admission()
    for number in range(10 * MAX_WAITING):
        assert waiting.add(number, "192.0.2.1") is None
        waiting.done(number)
    waiting.done(7)
    assert len(waiting) == 0


def test_an_ipv6_subscriber_is_one_address_and_a_mapped_one_is_ipv4() -> None:
    waiting: Admission[str] = Admission()
    for _ in range(4):
        waiting.failed("2001:db8:1:2::1", "auth", 0)
        waiting.failed("::ffff:192.0.2.1", "auth", 0)
    assert waiting.refuses("2001:db8:1:2:ffff::9", 1)
    assert not waiting.refuses("2001:db8:1:3::1", 1)
    assert waiting.refuses("192.0.2.1", 1)


def test_failures_add_up_pass_and_have_a_limit() -> None:
    waiting: Admission[int] = Admission()
    waiting.failed("192.0.2.1", "auth", 100)
    waiting.failed("192.0.2.1", "closed", 100)
    assert not waiting.refuses("192.0.2.1", 100)
    for _ in range(3):
        waiting.failed("192.0.2.1", "auth", 100)
    assert waiting.refuses("192.0.2.1", 104)
    assert not waiting.refuses("192.0.2.1", 106)
    for _ in range(1000):
        waiting.failed("192.0.2.1", "auth", 200)
    assert waiting.refuses("192.0.2.1", 200 + PENALTY_MAX - PENALTY_FROM)
    assert not waiting.refuses("192.0.2.1", 201 + PENALTY_MAX - PENALTY_FROM)


def test_the_memory_of_failures_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(admission, "MAX_PENALISED", 4)
    waiting: Admission[int] = Admission()
    for _ in range(5):
        waiting.failed("192.0.2.1", "auth", 0)
    for number in range(100):
        waiting.failed(f"198.51.100.{number}", "auth", 0)
    assert len(waiting._until) == 4
    assert waiting.refuses("192.0.2.1", 0)  # those let in soonest were forgotten

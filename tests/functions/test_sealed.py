from __future__ import annotations

import pytest

pytest.importorskip("cryptography")

from tunnelkit.functions.sealed import Channel


def connected() -> tuple[Channel, Channel]:
    one, other = Channel(), Channel()
    one.connect(other.public, first=True)
    other.connect(one.public, first=False)
    return one, other


def test_both_directions() -> None:
    one, other = connected()
    for message in (b"", b"one", b"x" * 100_000):
        sealed = one.seal(message)
        assert not message or message not in sealed
        assert other.open(sealed) == message
        assert one.open(other.seal(message)) == message


def test_nothing_but_the_next_message_opens() -> None:
    one, other = connected()
    first, second = one.seal(b"first"), one.seal(b"second")
    assert other.open(first) == b"first"
    with pytest.raises(ValueError, match="next"):
        other.open(first)
    changed = bytes([second[0] ^ 1]) + second[1:]
    one, other = connected()
    for wrong in (second, changed, b"", one.seal(b"")[:-1]):
        with pytest.raises(ValueError, match="next"):
            other.open(wrong)
    with pytest.raises(ValueError, match="next"):
        one.open(one.seal(b"its own"))


def test_keys_of_two_channels_differ() -> None:
    assert connected()[0].seal(b"same") != connected()[0].seal(b"same")

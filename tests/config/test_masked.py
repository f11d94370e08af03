from __future__ import annotations

import copy
import logging
import pickle

import pytest

from tunnelkit.config import Masked


def test_no_rendering_shows_the_text(caplog: pytest.LogCaptureFixture) -> None:
    secret = Masked("hunter2")
    logging.getLogger("test").warning("%s %r", secret, [secret])
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}" + caplog.text
    assert secret.reveal() == "hunter2"


def test_equal_texts_are_equal_secrets() -> None:
    assert Masked("a") == Masked("a") != Masked("b")
    assert len({Masked("a"), Masked("a")}) == 1
    assert Masked("a") != "a"


def test_empty_is_false() -> None:
    assert not Masked()
    assert Masked("0")


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy])
def test_it_is_not_written_anywhere(write: object) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        write(Masked("hunter2"))  # type: ignore[operator]

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.config.names import MAX_KEYS, MAX_SIZE, check_key, check_keys, check_name, check_values
from tunnelkit.errors import InvalidError, InvalidNameError


@pytest.mark.parametrize("name", ["a", "A.b_c-9", ".", "-x", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name, what="secret") == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "a\0", None, 7])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(InvalidNameError, match=r"secret.*\[invalid_name\]"):
        check_name(name, what="secret")


def test_a_value_in_the_place_of_a_name_is_not_shown() -> None:
    with pytest.raises(InvalidNameError) as raised:
        check_name("PASSWORD=hunter2", what="secret")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("key", ["A", "_", "a1", "PATH", "x" * 255])
def test_keys(key: str) -> None:
    assert check_key(key) == key


@given(st.text(min_size=1, max_size=300).filter(lambda text: not text.isidentifier() or not text.isascii()))
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidError) as raised:
        check_key(key)
    assert len(key) < 4 or key not in str(raised.value)


@pytest.mark.parametrize("key", ["", "x" * 256, None, b"A"])
def test_more_that_is_no_key(key: object) -> None:
    with pytest.raises(InvalidError):
        check_key(key)


def test_one_str_is_not_a_list_of_keys() -> None:
    with pytest.raises(InvalidError, match="Give a list"):
        check_keys("PATH")


def test_none_is_left_out() -> None:
    values = check_values({"A": "1", "B": None, "C": ""})
    assert {key: value.reveal() for key, value in values.items()} == {"A": "1", "C": ""}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"A": 1}, "value of A is a str, not int"),
        ({"A": b"hunter2"}, "not bytes"),
        ({"A": "hunter2\0"}, "A has a NUL"),
        ({"A": "hunter2\ud800"}, "A has characters"),
        ({"A-B": None}, "'-' as its character 2 of 3"),
        ({7: "hunter2"}, "a str, not int"),
        ([("A", "hunter2")], "made from a dict, not list"),
        ({f"A{i}": "" for i in range(MAX_KEYS + 1)}, "1,001 variables"),
        ({"A": "x" * MAX_SIZE, "B": "y"}, "bytes"),
    ],
)
def test_what_no_environment_holds(values: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidError, match=said) as raised:
        check_values(values)
    assert "hunter2" not in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:  # nor in what the error came from
        assert "hunter2" not in repr(vars(error)) + repr(error.args)
        assert not isinstance(error, UnicodeError)
        error = error.__context__

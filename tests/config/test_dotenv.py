"""The cases of python-dotenv's own documentation and tests: quoting, export, comments, interpolation."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.config import dotenv
from tunnelkit.config.dotenv import find_dotenv, read_dotenv, read_json
from tunnelkit.errors import InvalidError, NotFoundError

LINES = {
    "a=b": {"a": "b"},
    "'a'=b": {"a": "b"},
    "a='b'": {"a": "b"},
    'a="b"': {"a": "b"},
    "[a]": None,
    "  a=b": {"a": "b"},
    "a= b ": {"a": "b"},
    "a = b": {"a": "b"},
    "a=b c": {"a": "b c"},
    "export a=b": {"a": "b"},
    " export 'a'=b": {"a": "b"},
    "export export_me=1": {"export_me": "1"},
    "# a=b": {},
    "": {},
    "\n\n": {},
    "a=b #c": {"a": "b"},
    "a=b#c": {"a": "b#c"},
    "a='b'#c": {"a": "b"},
    "a=b\tc": {"a": "b\tc"},
    "a=b # c\nd=e": {"a": "b", "d": "e"},
    "a=": {"a": ""},
    "a=''": {"a": ""},
    "a": {"a": None},
    "no_value": {"no_value": None},
    'a="b\nc"': {"a": "b\nc"},
    "a='b\nc'": {"a": "b\nc"},
    r'a="b\nc"': {"a": "b\nc"},
    r"a='b\nc'": {"a": r"b\nc"},
    r'a="b\"c"': {"a": 'b"c'},
    r"a='b\'c'": {"a": "b'c"},
    "a=b\\nc": {"a": r"b\nc"},
    'a="b\\tc\\\\d"': {"a": "b\tc\\d"},
    "a=à": {"a": "à"},
    'a="à"': {"a": "à"},
    'a="some password with \\" and # and =="': {"a": 'some password with " and # and =='},
    "a=postgres://user:p=ss@host/db?x=1": {"a": "postgres://user:p=ss@host/db?x=1"},
    "a=b\r\nc=d\r\n": {"a": "b", "c": "d"},
    "a=b\rc=d": {"a": "b", "c": "d"},
    "\ufeffa=b": {"a": "b"},
    "a=1\na=2": {"a": "2"},
    "a=1\na=${a}2": {"a": "12"},
}


@pytest.mark.parametrize(("text", "expected"), LINES.items())
def test_lines(tmp_path: Path, text: str, expected: dict[str, str | None] | None) -> None:
    path = tmp_path / ".env"
    path.write_bytes(text.encode())
    if expected is None:
        with pytest.raises(InvalidError, match="line 1"):
            read_dotenv(path)
        return
    assert read_dotenv(path) == expected
    assert dotenv_values(path, encoding="utf-8-sig") == expected  # and so does python-dotenv itself


@pytest.mark.parametrize(
    ("environ", "text", "interpolated"),
    [
        ({"b": "c"}, "a=$b", "$b"),
        ({"b": "c"}, "a=${b}", "c"),
        ({"b": "c"}, "a=${b:-d}", "c"),
        ({}, "a=${b}", ""),
        ({}, "a=${b:-d}", "d"),
        ({"b": "c"}, "a='${b}'", "c"),
        ({"b": "c"}, 'a="${b}"', "c"),
        ({"b": "c"}, "a=e${b}f", "ecf"),
        ({"b": "c"}, "b=d\na=${b}", "d"),
        ({"b": "c"}, "b\na=${b}", ""),
        ({"a": "c"}, "a=${a}x", "cx"),
        ({"b": "${c}", "c": "d"}, "a=${b}", "${c}"),
    ],
)
def test_interpolation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], text: str, interpolated: str
) -> None:
    for name in "abc":
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / ".env"
    path.write_text(text)
    assert read_dotenv(path)["a"] == interpolated
    literal = text.rpartition("a=")[2].strip("'\"")
    assert read_dotenv(path, interpolate=False)["a"] == literal


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_what_is_quoted_comes_back(value: str) -> None:
    quoted = value.replace("\\", r"\\").replace("'", r"\'")
    expected = value.replace("\r\n", "\n").replace("\r", "\n")
    stdin = io.TextIOWrapper(io.BytesIO(f"A='{quoted}'\nB=1".encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        assert read_dotenv("-", interpolate=False) == {"A": expected, "B": "1"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\n\n\nB='hunter2", 4),
        ('A=1\nB="hunter2\nC=2', 2),
        ("A=1\n# x\n=hunter2", 3),
        ("A=1\nB.C=hunter2", 2),
        ("KEY=-----BEGIN\nhunter2/+x=\n-----END", 2),
        ("A=1\r\n\r\nB C=hunter2", 3),
        ("A=1\n2B=hunter2", 2),
        ("A=1\nB=hunter2\0", 2),
    ],
)
def test_a_line_that_sets_nothing_is_named_and_not_shown(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "x.env"
    path.write_bytes(text.encode())
    with pytest.raises(InvalidError, match=f"x.env, line {line}: ") as raised:
        read_dotenv(path)
    assert "hunter2" not in str(raised.value)


def test_the_nearest_file_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".env-x").write_text("A=1")
    (tmp_path / "a" / ".env-x").mkdir()  # a directory of that name is passed over
    monkeypatch.chdir(below)
    assert find_dotenv(".env-x") == tmp_path / ".env-x"
    with pytest.raises(NotFoundError, match=r"no file \.env-y"):
        find_dotenv(".env-y")


@pytest.mark.parametrize("read", [read_dotenv, read_json])
def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object) -> None:
    assert callable(read)
    with pytest.raises(NotFoundError, match=r"no file .*missing"):
        read(tmp_path / "missing")
    with pytest.raises(InvalidError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "latin").write_bytes(b"A=\xff")
    with pytest.raises(InvalidError, match="UTF-8"):
        read(tmp_path / "latin")
    monkeypatch.setattr(dotenv, "MAX_FILE", 10)
    (tmp_path / "long").write_text("A=123456789")
    with pytest.raises(InvalidError, match="longer"):
        read(tmp_path / "long")


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"A": "1\\n", "B": "é", "C": null}')
    assert read_json(path) == {"A": "1\n", "B": "é", "C": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"A": "hunter2",\n "B"}', "line 2, column 5"),
        ('{"A": "hunter2"', "line 1"),
        ("", "line 1, column 1"),
        ('["hunter2"]', "not a JSON object"),
        ('"hunter2"', "not a JSON object"),
        ('{"A": 7}', "value of A is a str, not int"),
        ('{"A": {"B": "hunter2"}}', "value of A is a str"),
        ('{"A": "hunter2", "A": "2"}', "A is there twice"),
        ('{"A-": "hunter2"}', "name of a variable"),
        ("[" * 100_000, "nested"),
    ],
)
def test_json_that_is_no_secret(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InvalidError, match=said) as raised:
        read_json(path)
    assert "x.json" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__context__ is None or "hunter2" not in repr(vars(raised.value.__context__))

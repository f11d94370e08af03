from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.config.toml import Path, TomlError, locate, parse

TEXT = '''
# [not] = "a table"
plain = 1            # here = 2
"quoted key".dotted = """
[neither]
this = \\"""
""" # the end
literal = \'\'\'
it = 'is'\'\'\'
table = { inner = 1, "x y" = [ 1, { deep = 2 } ], a.b = "}" }
list = [
  "a]",              # ]
  "b = c",
]
empty = ""
after = 1979-05-27T07:32:00Z

[ serve ]
x = '#'
[[tunnels]]
name = "one"
[tunnels.limits]
rate = 1.5
[[tunnels]]
name = "two"
'''


def test_each_key_has_its_line() -> None:
    document = parse(TEXT.encode())
    found = {".".join(map(str, path)): line for path, line in document.lines.items()}
    assert found == {
        "plain": 3,
        "quoted key": 4,
        "quoted key.dotted": 4,
        "literal": 8,
        "table": 10,
        "table.inner": 10,
        "table.x y": 10,
        "table.a": 10,
        "table.a.b": 10,
        "list": 11,
        "empty": 15,
        "after": 16,
        "serve": 18,
        "serve.x": 19,
        "tunnels": 20,
        "tunnels.0": 20,
        "tunnels.0.name": 21,
        "tunnels.0.limits": 22,
        "tunnels.0.limits.rate": 23,
        "tunnels.1": 24,
        "tunnels.1.name": 25,
    }
    assert document.values == tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a =", 1),
        (b"a = 1\nb = \nc = 3", 2),
        (b"a = 1\r\n\r\nb c = 2", 3),
        (b'a = 1\n[x\nb = "2"', 2),
        (b'a = """\nnever\nends\n', 3),
        (b"a = 1\nb = 2\na = 3", 3),
        (b"a = '\xff'", 1),
        (b"\n\n# \xff\xfe", 3),
        (b"a = " + b"[" * 5000, 1),
    ],
)
def test_what_is_malformed_has_its_line(text: bytes, line: int) -> None:
    with pytest.raises(TomlError) as caught:
        parse(text)
    assert caught.value.line == line
    assert "\n" not in caught.value.what


# --- generated documents: every key is found, at the line where it was written --------------------

keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)
texts = st.text(st.sampled_from("ab=[]{}#\"'\\ \n.,"), max_size=12)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\x7f", "\\u007f")
    return f'"{escaped}"'


def _block(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '""\\"')
    return f'"""\n{escaped}"""'


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    lines: dict[Path, int] = {}
    text = ""

    def pairs(table: tuple[str, ...]) -> None:
        nonlocal text
        for key in draw(st.lists(keys, unique=True, max_size=4)):
            text += draw(st.sampled_from(["", "\n", "# [x]\n", "  "]))
            lines[*table, key] = text.count("\n") + 1
            value = draw(texts)
            written = draw(st.sampled_from([_quoted, _block, lambda v: f"[\n{_quoted(v)}, # ]\n]"]))
            text += f"{_quoted(key)} = {written(value)} # = 1\n"

    pairs(())
    for name in draw(st.lists(keys.map("t-{}".format), unique=True, max_size=3)):
        lines[(name,)] = text.count("\n") + 1
        text += f"[{_quoted(name)}]\n"
        pairs((name,))
    return text, lines


@given(documents())
def test_every_key_is_found(document: tuple[str, dict[Path, Any]]) -> None:
    text, lines = document
    tomllib.loads(text)
    assert locate(text) == lines

"""docs/errors.md names every code there is."""

from __future__ import annotations

import re
from pathlib import Path

from tunnelkit import errors
from tunnelkit.errors import TunnelkitError
from tunnelkit.relay import pages

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()

OURS = re.compile(r'\.(?:fail|refuse)\((\d{3}), "(\w+)"')
"""How the relay answers visitors itself."""


def table(heading: str) -> dict[str, str]:
    """The second column of the table below ``heading``, by the code in the first."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))


def test_every_error_is_listed_with_its_exit_status() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "from_code"]
    assert all(issubclass(kind, TunnelkitError) for kind in kinds)
    expected = {kind.code: str(kind.exit_status) for kind in kinds}
    assert table("Errors of the command line and the library") == expected


def test_every_page_for_visitors_is_listed_with_its_status() -> None:
    listed = table("What visitors see")
    assert pages._WORDS.keys() <= listed.keys()
    for source in (ROOT / "tunnelkit" / "relay").glob("*.py"):
        for status, code in OURS.findall(source.read_text()):
            assert status in listed[code]


def test_every_notice_is_listed() -> None:
    listed = table("Notices and warnings")
    for source in [
        *(ROOT / "tunnelkit" / "agent").glob("*.py"),
        *(ROOT / "tunnelkit" / "relay").glob("*.py"),
    ]:
        text = source.read_text()
        for code in re.findall(r'(?:Notice|Event\("(?:notice|warning)")\([^()]*"([a-z]+_[a-z]+)"', text):
            assert code in listed

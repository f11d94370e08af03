"""``tunnelkit config``: the settings that hold here, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tunnelkit.cli.common import example, json_option

if TYPE_CHECKING:
    from tunnelkit.config.sources import Mistake

__all__ = ["config"]


@click.group(epilog=example("tunnelkit config check"))
def config() -> None:
    """Look at the settings that hold in this directory."""


@config.command(epilog=example("tunnelkit config show --json"))
@json_option
def show(*, as_json: bool) -> None:
    """Show every setting, and where its value comes from; secrets are masked."""
    from tunnelkit.cli.stored import print_json, print_table
    from tunnelkit.config.check import show

    shown = show()
    if as_json:
        keys = ("name", "value", "source", "line")
        print_json([{key: getattr(it, key) for key in keys if key != "line" or it.line} for it in shown])
        return
    rows = ((it.name, _text(it.value), f"{it.source}:{it.line}" if it.line else it.source) for it in shown)
    print_table(("SETTING", "VALUE", "FROM"), rows)


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{key}={it}" for key, it in value.items())
    return str(value)


@config.command(epilog=example("tunnelkit config check"))
@json_option
def check(*, as_json: bool) -> None:
    """Find every mistake in the settings; the exit status is 2 where there is one.

    Looks at both files, the environment, and the files of tokens and authorities and keys that they name.
    """
    from tunnelkit.cli.stored import print_json, say
    from tunnelkit.config.check import check
    from tunnelkit.errors import InvalidError

    mistakes = check()
    if as_json:
        print_json([_facts(mistake) for mistake in mistakes])
    else:
        for mistake in mistakes:
            say(f"error: {mistake.placed}")
    if mistakes:
        raise click.exceptions.Exit(InvalidError.exit_status)
    if not as_json:
        say("No mistakes")


def _facts(mistake: Mistake) -> dict[str, object]:
    facts: dict[str, object] = {
        "name": mistake.name,
        "file": str(mistake.path or ""),
        "line": mistake.line,
        "message": mistake.error.what,
        "hint": mistake.error.hint,
        "code": mistake.error.code,
    }
    return {key: value for key, value in facts.items() if value}

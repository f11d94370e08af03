"""``tunnelkit run``: the entry point of a script, with its functions in processes of their own."""

from __future__ import annotations

import click

from tunnelkit.cli.common import example

__all__ = ["run"]


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=example("tunnelkit run pipeline.py", "tunnelkit run pipeline.py::main --day 2026-01-31"),
)
@click.argument("script", metavar="SCRIPT[::ENTRY]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS]…")
def run(script: str, arguments: tuple[str, ...]) -> None:
    """Run a local entry point of a Python script, or one of its functions.

    ENTRY may be left out where there is only one. Its parameters are options: with the script's name
    in front, --help shows them. What functions print comes line by line, with the function's name.
    """
    from tunnelkit.cli.script import run_script

    run_script(script, arguments)

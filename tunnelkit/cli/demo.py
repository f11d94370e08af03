"""``tunnelkit demo``: everything at once, on this machine."""

from __future__ import annotations

import click

from tunnelkit.cli.common import example

__all__ = ["demo"]


@click.command(epilog=example("tunnelkit demo"))
def demo() -> None:
    """Show an HTTP and a TCP tunnel at work, and how fast they are here.

    Relay, agent, services and visitors all run in this one process. On a terminal the page stays up
    until Ctrl-C.
    """
    from tunnelkit.cli.demonstration import demonstrate

    demonstrate()

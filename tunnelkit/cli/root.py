"""The root of the commands, and how every one of them fails."""

from __future__ import annotations

from typing import Any

import click

from tunnelkit._version import __version__
from tunnelkit.cli.agent import http, tcp
from tunnelkit.cli.common import example
from tunnelkit.cli.demo import demo
from tunnelkit.cli.egress import egress
from tunnelkit.cli.exit import exit_
from tunnelkit.cli.output import stderr
from tunnelkit.cli.run import run
from tunnelkit.cli.serve import serve
from tunnelkit.errors import TunnelkitError

__all__ = ["cli"]


class Root(click.Group):
    """A group whose commands raise TunnelkitError: one line, and the error's own exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TunnelkitError as error:
            stderr().line(f"error: {error}")
            raise click.exceptions.Exit(error.exit_status) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("tunnelkit http 8000"),
)
@click.version_option(__version__, message="tunnelkit %(version)s")
def cli() -> None:
    """Give a service on this machine a public address.

    Settings come from options, then TUNNELKIT_… variables, then tunnelkit.toml. TUNNELKIT_LOG=info
    or debug says more of what happens.
    """


for command in (http, tcp, serve, egress, exit_, run, demo):
    cli.add_command(command)

"""The root of the commands, and how every one of them fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from tunnelkit._version import __version__
from tunnelkit.cli.agent import http, tcp
from tunnelkit.cli.common import example
from tunnelkit.cli.completion import completion
from tunnelkit.cli.config import config
from tunnelkit.cli.demo import demo
from tunnelkit.cli.egress import egress
from tunnelkit.cli.environment import environment
from tunnelkit.cli.exit import exit_
from tunnelkit.cli.output import stderr
from tunnelkit.cli.proxy import proxy
from tunnelkit.cli.run import run
from tunnelkit.cli.secret import secret
from tunnelkit.cli.serve import serve
from tunnelkit.errors import TunnelkitError, UsageError

__all__ = ["cli"]


class Root(click.Group):
    """A group whose commands raise TunnelkitError or are used wrongly: one line, and an exit status."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _one_line():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn whatever ends a command into one line, and the exit status that goes with it."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # a group without a command shows what commands there are
    except click.UsageError as error:
        _fail(_usage(error))
    except TunnelkitError as error:
        _fail(error)
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(130) from None


def _fail(error: TunnelkitError) -> NoReturn:
    stderr().line(f"error: {error}")
    raise click.exceptions.Exit(error.exit_status) from None


def _usage(error: click.UsageError) -> UsageError:
    """click's message with our code, and without arguments too many: one may be a secret."""
    what = " ".join(error.format_message().split())
    what = re.sub(r"^(Got unexpected extra arguments?) \(.*\)", r"\1", what)
    path = error.ctx.command_path if error.ctx is not None else "tunnelkit"
    what, guess, meant = what.partition("Did you mean")
    hint = f"{guess}{meant}".rstrip(".)") if guess else f"{path} --help says more"
    return UsageError(what.rstrip(" (."), hint=hint)


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


for command in (
    http, tcp, serve, egress, exit_, run, secret, proxy, environment, config, completion, demo,
):  # fmt: skip
    cli.add_command(command)

"""``tunnelkit completion``: the script that makes a shell complete our commands."""

from __future__ import annotations

import click

from tunnelkit.cli.common import example

__all__ = ["completion"]


@click.command(
    epilog=example(
        "tunnelkit completion bash > ~/.local/share/bash-completion/completions/tunnelkit",
        "tunnelkit completion zsh > ~/.zfunc/_tunnelkit      # with ~/.zfunc in fpath, before compinit",
        "tunnelkit completion fish > ~/.config/fish/completions/tunnelkit.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and stored names in a shell.

    It needs bash 4.4, zsh or fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    click.echo(_script(kind, ctx.find_root().command))


def _script(kind: type, command: click.Command) -> str:
    made = kind(command, {}, "tunnelkit", "_TUNNELKIT_COMPLETE")
    # Not source(): that of bash asks this machine's bash for its version, and the script may be for another.
    return str(made.source_template % made.source_vars())

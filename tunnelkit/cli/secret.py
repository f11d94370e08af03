"""``tunnelkit secret``: environment variables that are kept encrypted, under a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tunnelkit.cli.common import complete, env_option, example, grouped, json_option

__all__ = ["secret"]

name_argument = click.argument("name", shell_complete=complete("secret"))

value_options: Callable[[Any], Any] = grouped(
    click.argument("assignments", nargs=-1, metavar="[KEY=VALUE | KEY=-]..."),
    click.option(
        "--from-dotenv",
        multiple=True,
        type=click.Path(allow_dash=True),
        metavar="FILE",
        help="Variables from a .env file; - is standard input.",
    ),
    click.option(
        "--from-json",
        multiple=True,
        type=click.Path(allow_dash=True),
        metavar="FILE",
        help="Variables from a JSON object of strings; - is standard input.",
    ),
)


@click.group(epilog=example("tunnelkit secret create database PASSWORD=-"))
def secret() -> None:
    """Keep environment variables encrypted, and give them to programs.

    Values are never printed.
    """


@secret.command(
    epilog=example(
        "tunnelkit secret create database USER=app PASSWORD=-",
        "tunnelkit secret create web --from-dotenv .env",
    )
)
@click.argument("name")
@value_options
@click.option("--force", is_flag=True, help="Replace a secret of this name.")
@env_option
def create(name: str, *, force: bool, env: str | None, **values: Any) -> None:
    """Create a secret.

    KEY=VALUE can be read by every user of this machine while the command runs, and stays in the shell's
    history. KEY=- takes the value from standard input, or asks for it on a terminal. What stands on the
    command line comes before files.
    """
    from tunnelkit.cli.secrets import create

    create(name, env, force=force, **values)


@secret.command("list", epilog=example("tunnelkit secret list --json"))
@env_option
@json_option
def list_(*, env: str | None, as_json: bool) -> None:
    """List the secrets of an environment."""
    from tunnelkit.cli.secrets import list_all

    list_all(env, as_json=as_json)


@secret.command(epilog=example("tunnelkit secret info database"))
@name_argument
@env_option
@json_option
def info(name: str, *, env: str | None, as_json: bool) -> None:
    """Show the variables' names, who made it and who used it last; never a value."""
    from tunnelkit.cli.secrets import show

    show(name, env, as_json=as_json)


@secret.command(epilog=example("tunnelkit secret update database PASSWORD=- --unset OLD_PASSWORD"))
@name_argument
@value_options
@click.option("--unset", multiple=True, metavar="KEY", help="A variable to take out, or several.")
@env_option
def update(name: str, *, unset: tuple[str, ...], env: str | None, **values: Any) -> None:
    """Change variables of a secret; those not named stay as they are.

    KEY=VALUE and KEY=- are as for create.
    """
    from tunnelkit.cli.secrets import update

    update(name, env, unset=unset, **values)


@secret.command(epilog=example("tunnelkit secret delete database"))
@name_argument
@click.option("--allow-missing", is_flag=True, help="It is no error if there is none.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@env_option
def delete(name: str, *, allow_missing: bool, yes: bool, env: str | None) -> None:
    """Delete a secret with all its versions."""
    from tunnelkit.cli.secrets import delete

    delete(name, env, allow_missing=allow_missing, yes=yes)


@secret.command(
    epilog=example("tunnelkit secret run --secret database -- psql"),
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--secret",
    "names",
    multiple=True,
    required=True,
    metavar="NAME",
    shell_complete=complete("secret"),
    help="A secret to give to it; several times for several, of which the last one wins.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@env_option
def run(names: tuple[str, ...], command: tuple[str, ...], *, env: str | None) -> None:
    """Run a command with the variables of secrets added to its environment.

    The command takes the place of this process: its signals, standard streams and exit status are its own.
    """
    from tunnelkit.cli.secrets import become

    become(names, command, env)


@secret.command(epilog=example("tunnelkit secret history database"))
@name_argument
@env_option
@json_option
def history(name: str, *, env: str | None, as_json: bool) -> None:
    """List the versions of a secret that are kept, the newest first."""
    from tunnelkit.cli.secrets import history

    history(name, env, as_json=as_json)


@secret.command(epilog=example("tunnelkit secret rollback database 3"))
@name_argument
@click.argument("version", type=click.IntRange(min=1))
@env_option
def rollback(name: str, version: int, *, env: str | None) -> None:
    """Make a new version of what an old one holds."""
    from tunnelkit.cli.secrets import rollback

    rollback(name, version, env)


@secret.command(epilog=example("tunnelkit secret audit --limit 20"))
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N")
@json_option
def audit(*, limit: int, as_json: bool) -> None:
    """List who did what in the store, the newest first; never a value."""
    from tunnelkit.cli.secrets import audit

    audit(limit, as_json=as_json)


@secret.command("rotate-key", epilog=example("tunnelkit secret rotate-key"))
@click.option(
    "--to",
    type=click.Choice(["generated", "keyring", "passphrase"]),
    help="What keeps the new key. [default: what TUNNELKIT_… variables name, or else what keeps it now]",
)
def rotate_key(*, to: str | None) -> None:
    """Encrypt the store's data keys with a new key.

    Values are not touched. A rotation that was interrupted goes on when this runs again.
    """
    from tunnelkit.cli.secrets import rotate_key

    rotate_key(to)

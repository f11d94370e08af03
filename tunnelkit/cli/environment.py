"""``tunnelkit environment``: the same names with other values."""

from __future__ import annotations

import click

from tunnelkit.cli.common import complete, example, json_option

__all__ = ["environment"]


@click.group(epilog=example("tunnelkit environment create production"))
def environment() -> None:
    """Keep secrets and proxies of the same names apart, for development and production, say.

    main is always there, and meant where none is named with -e or TUNNELKIT_ENVIRONMENT.
    """


@environment.command(epilog=example("tunnelkit environment create production"))
@click.argument("name")
def create(name: str) -> None:
    """Create an environment."""
    from tunnelkit.cli.stored import opened, say
    from tunnelkit.config.names import check_name

    check_name(name, what="environment")
    with opened() as store:
        store.create_environment(name)
    say(f"Environment {name!r} is there")


@environment.command("list", epilog=example("tunnelkit environment list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List all environments."""
    from tunnelkit.cli.stored import moment, opened, print_json, print_table

    with opened() as store:
        entries = store.environments()
    if as_json:
        print_json(
            [
                {
                    "name": it.name,
                    "secrets": it.secrets,
                    "proxies": it.proxies,
                    "created_at": it.created_at.isoformat(),
                    "created_by": it.created_by,
                }
                for it in entries
            ]
        )
        return
    rows = ((it.name, it.secrets, it.proxies, moment(it.created_at), it.created_by) for it in entries)
    print_table(("NAME", "SECRETS", "PROXIES", "CREATED", "BY"), rows)


@environment.command(epilog=example("tunnelkit environment delete production"))
@click.argument("name", shell_complete=complete("environment"))
@click.option("--allow-missing", is_flag=True, help="It is no error if there is none.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(name: str, *, allow_missing: bool, yes: bool) -> None:
    """Delete an environment with all secrets and proxies in it."""
    from tunnelkit.cli.asking import confirm
    from tunnelkit.cli.stored import opened, say
    from tunnelkit.config.names import check_name

    check_name(name, what="environment")
    confirm(f"Delete the environment {name!r} with all that is in it?", yes=yes)
    with opened() as store:
        gone = store.delete_environment(name, allow_missing=allow_missing)
    say(f"Environment {name!r} is deleted" if gone else f"There was no environment {name!r}")

"""``tunnelkit proxy``: named ways out, from an address that others can let in."""

from __future__ import annotations

import click

from tunnelkit.cli.common import complete, env_option, example, json_option

__all__ = ["proxy"]

name_argument = click.argument("name", shell_complete=complete("proxy"))


@click.group(epilog=example("tunnelkit proxy create partner --ip 203.0.113.7"))
def proxy() -> None:
    """Name the address that connections leave from."""


@proxy.command(
    epilog=example(
        "tunnelkit proxy create partner --ip 203.0.113.7",
        "tunnelkit proxy create office --gateway - < gateway.url",
    )
)
@click.argument("name")
@click.option(
    "--ip",
    "ips",
    multiple=True,
    metavar="IP",
    help="An address of this machine; several times for several, in the order of preference.",
)
@click.option(
    "--gateway",
    metavar="URL",
    help="A proxy elsewhere: http://, socks5:// or socks5h://[USER:PASSWORD@]HOST[:PORT]. With a password"
    " in it, better give - and the URL on standard input.",
)
@click.option("--force", is_flag=True, help="Replace a proxy of this name.")
@env_option
def create(name: str, *, ips: tuple[str, ...], gateway: str | None, force: bool, env: str | None) -> None:
    """Create a proxy: addresses of this machine, or a gateway."""
    from tunnelkit.cli.proxies import create

    create(name, env, ips=ips, gateway=gateway, force=force)


@proxy.command("list", epilog=example("tunnelkit proxy list --json"))
@env_option
@json_option
def list_(*, env: str | None, as_json: bool) -> None:
    """List the proxies of an environment."""
    from tunnelkit.cli.proxies import list_all

    list_all(env, as_json=as_json)


@proxy.command(epilog=example("tunnelkit proxy info partner"))
@name_argument
@env_option
@json_option
def info(name: str, *, env: str | None, as_json: bool) -> None:
    """Show where a proxy leads, without its password."""
    from tunnelkit.cli.proxies import show

    show(name, env, as_json=as_json)


@proxy.command(epilog=example("tunnelkit proxy delete partner"))
@name_argument
@click.option("--allow-missing", is_flag=True, help="It is no error if there is none.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@env_option
def delete(name: str, *, allow_missing: bool, yes: bool, env: str | None) -> None:
    """Delete a proxy."""
    from tunnelkit.cli.proxies import delete

    delete(name, env, allow_missing=allow_missing, yes=yes)

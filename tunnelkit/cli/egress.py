"""``tunnelkit egress``: a proxy whose connections leave from pinned addresses, and its users."""

from __future__ import annotations

from typing import Any

import click

from tunnelkit.cli.common import example, take_rules

__all__ = ["egress"]


class _Ordered(click.Group):
    """``--allow`` and ``--deny`` as one list, for their order among each other decides."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj, rest = take_rules(args)
        return super().parse_args(ctx, rest)


@click.group(
    cls=_Ordered,
    invoke_without_command=True,
    epilog=example(
        "tunnelkit egress --listen 127.0.0.1:1080 --source-ip 203.0.113.7",
        "curl -x socks5h://127.0.0.1:1080 https://example.com/",
    ),
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDR",
    help="Where clients come in, SOCKS and HTTP alike: PORT, HOST:PORT, or :PORT for every address of"
    " this machine. Several times for several. [default: 127.0.0.1:1080]",
)
@click.option(
    "--source-ip",
    multiple=True,
    metavar="ADDRESS",
    help="Leave from this address, IPv4 or IPv6, and from no other. Several times for a pool."
    " [default: the system chooses]",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="RULE",
    help="Where clients may go: HOST, *.HOST, ADDRESS or CIDR, with :PORTS or alone. Of all --allow and"
    " --deny, the first that matches decides. [default: all public addresses]",
)
@click.option("--deny", multiple=True, metavar="RULE", help="Where clients may not go.")
@click.option("--users", metavar="FILE", help="Who may use it, with passwords; see: tunnelkit egress user.")
@click.option(
    "--client", multiple=True, metavar="CIDR", help="Where clients may come from. Several times for several."
)
@click.option("--open", is_flag=True, default=None, help="Let everybody in who reaches it.")
@click.option("--via", metavar="URL", help="Leave from this relay (ws:// or wss://), or one of its exits.")
@click.option("--exit", metavar="NAME", help="With --via: the exit, by its name or as zone:ZONE.")
@click.option("--token", metavar="TOKEN", help="With --via: the relay's token; better give --token-file.")
@click.option("--token-file", metavar="FILE", help="With --via: a file with the relay's token.")
@click.option("--ca", metavar="FILE", help="With --via: who signs the relay's certificate (PEM).")
@click.option("--fingerprint", metavar="SHA256", help="With --via: the relay's certificate itself, pinned.")
@click.option(
    "--upstream",
    metavar="URL",
    help="Go on through this proxy, socks5:// or http://. A password in it is seen by every user of this"
    " machine: better give TUNNELKIT_EGRESS_UPSTREAM.",
)
@click.option(
    "--access-log",
    metavar="FILE",
    help="A line for each connection; - for standard error, off for none. [default: -]",
)
@click.option("--connections", metavar="N", help="Clients at once. [default: 10000]")
@click.option(
    "--connections-per-client", metavar="N", help="Connections of one client address. [default: 4096]"
)
@click.option("--user-connections", metavar="N", help="Connections of one user at once. [default: no limit]")
@click.option("--user-rate", metavar="N", help="New connections of one user a second. [default: no limit]")
@click.option(
    "--idle-timeout", metavar="SECONDS", help="End connections on which nothing moves. [default: 3600]"
)
@click.option(
    "--grace",
    metavar="SECONDS",
    help="Let running connections finish for this long at the end. [default: 30]",
)
@click.pass_context
def egress(
    ctx: click.Context,
    /,
    listen: tuple[str, ...],
    source_ip: tuple[str, ...],
    client: tuple[str, ...],
    **overrides: Any,
) -> None:
    """Run a proxy for SOCKS and HTTP whose connections all leave from one address, or a few.

    One port speaks SOCKS4, 4a and 5 and HTTP. If a pinned address is not of this machine any more,
    connections fail until it is back; they never leave from another one.
    """
    if ctx.invoked_subcommand is not None:
        return
    from tunnelkit.cli.proxying import serve_clients

    relay = {name: overrides.pop(name) for name in ("token", "token_file", "ca", "fingerprint")}
    del overrides["allow"], overrides["deny"]
    several = {"listen": listen, "source_ip": source_ip, "client": client, "rules": tuple(ctx.obj)}
    serve_clients({**{name: value or None for name, value in several.items()}, **overrides}, relay)


@egress.command(epilog=example("tunnelkit egress user alice --users proxy.users"))
@click.argument("name")
@click.option(
    "--users", metavar="FILE", help="Write the user to this file. [default: a line on standard output]"
)
def user(name: str, users: str | None) -> None:
    """Add a user, or change the password of one.

    The password is asked for, or read from standard input. The file keeps a hash of it.
    """
    from tunnelkit.cli.proxying import write_user

    write_user(name, users)

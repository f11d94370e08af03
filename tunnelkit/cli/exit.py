"""``tunnelkit exit``: this machine as an exit, for proxies that leave by a relay."""

from __future__ import annotations

from typing import Any

import click

from tunnelkit.cli.common import RulesInOrder, example, proof_options

__all__ = ["exit_"]


@click.command(
    "exit",
    cls=RulesInOrder,
    epilog=example(
        "tunnelkit exit --name office --allow '*.example.com:443' --relay wss://relay.example.com",
        "tunnelkit egress --via wss://relay.example.com --exit office     # elsewhere",
    ),
)
@click.option("--name", metavar="NAME", help="The exit's name at the relay. [default: the relay chooses]")
@click.option("--zone", metavar="ZONE", help="The zone it is in: --exit zone:ZONE finds it, too.")
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
    help="Where others may go from here: HOST, *.HOST, ADDRESS or CIDR, with :PORTS or alone. Of all --allow"
    " and --deny, the first that matches decides. [default: all public addresses]",
)
@click.option("--deny", multiple=True, metavar="RULE", help="Where they may not go.")
@click.option("--relay", metavar="URL", help="Where to be found: ws://HOST:PORT or wss://HOST.")
@proof_options
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line.")
@click.option(
    "--grace",
    metavar="SECONDS",
    help="Let running connections finish for this long at the end. [default: 30]",
)
@click.pass_context
def exit_(
    ctx: click.Context,
    /,
    name: str | None,
    zone: str | None,
    source_ip: tuple[str, ...],
    grace: str | None,
    as_json: bool,
    **relay: Any,
) -> None:
    """Let egress proxies elsewhere leave from this machine.

    They go where the rules here, and the rights of their token, let them; by default not to private
    addresses. The relay passes their connections on; this machine needs no open port.
    """
    from tunnelkit.cli.exiting import hold_exit

    del relay["allow"], relay["deny"]
    wishes = {"name": name, "zone": zone, "grace": grace}
    several = {"source_ip": source_ip or None, "rules": tuple(ctx.obj) or None}
    hold_exit({**wishes, **several}, relay, as_json=as_json)

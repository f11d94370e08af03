"""``tunnelkit http`` and ``tunnelkit tcp``: a tunnel to a service, for as long as it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import click

from tunnelkit.cli.common import example, grouped, read_by, relay_options
from tunnelkit.errors import InvalidError
from tunnelkit.wire.address import Endpoint, parse_port, parse_target, tunnel_name

__all__ = ["http", "tcp"]

GRACE = 30.0
"""Seconds that running connections get at the end: what orchestrators give a process."""


def _host_header(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,255}", text):
        raise InvalidError("Not a Host header", hint="Give --host-header rewrite, or HOST[:PORT]")
    return text


tunnel_options: Callable[[Any], Any] = grouped(
    relay_options,
    click.option("--check", is_flag=True, help="End at once if the service is not there."),
    click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line."),
    click.option(
        "--grace",
        type=click.FloatRange(min=0),
        default=GRACE,
        metavar="SECONDS",
        help=f"Let running connections finish for this long at the end. [default: {GRACE:g}]",
    ),
)


@click.command(epilog=example("tunnelkit http 8000", "tunnelkit http 8000 --name app --relay wss://…"))
@click.argument("target", callback=read_by(parse_target))
@click.option(
    "--name",
    metavar="NAME",
    callback=read_by(tunnel_name),
    help="The public name, below the relay's domain. [default: the relay chooses]",
)
@click.option(
    "--remote-port",
    metavar="PORT",
    callback=read_by(parse_port),
    help="The public port, at an ssh+openssh:// relay, which has no names. [default: the server chooses]",
)
@click.option(
    "--host-header",
    metavar="rewrite|VALUE",
    callback=read_by(_host_header),
    help="The Host that the service sees: the target's own, or VALUE. [default: the visitor's]",
)
@tunnel_options
def http(
    target: Endpoint, name: str | None, remote_port: int | None, host_header: str | None, **options: Any
) -> None:
    """Give an HTTP service a public URL.

    TARGET is PORT, HOST:PORT, unix:/path or http://HOST:PORT.
    """
    wishes = {"name": name or "", "remote_port": remote_port or 0, "host_header": host_header or ""}
    _hold("http", target, wishes, **options)


@click.command(epilog=example("tunnelkit tcp 6379 --remote-port 20001 --relay wss://…"))
@click.argument("target", callback=read_by(parse_target))
@click.option(
    "--remote-port",
    metavar="PORT",
    callback=read_by(parse_port),
    help="The public port. [default: the relay chooses]",
)
@click.option(
    "--proxy-protocol",
    type=click.Choice(["1", "2"]),
    help="Tell the service who its visitor is, by this version of the PROXY protocol.",
)
@tunnel_options
def tcp(target: Endpoint, remote_port: int | None, proxy_protocol: str | None, **options: Any) -> None:
    """Give any TCP service a public port.

    TARGET is PORT, HOST:PORT, unix:/path or tcp://HOST:PORT.
    """
    wishes = {"remote_port": remote_port or 0, "proxy_protocol": int(proxy_protocol or 0)}
    _hold("tcp", target, wishes, **options)


def _hold(
    kind: Literal["http", "tcp"],
    target: Endpoint,
    wishes: Mapping[str, object],
    *,
    check: bool,
    as_json: bool,
    grace: float,
    lan: bool,
    **overrides: object,
) -> None:
    from tunnelkit.cli.tunnels import Wanted, hold

    hold(Wanted(kind, target, wishes, check, grace, lan), as_json=as_json, overrides=overrides)

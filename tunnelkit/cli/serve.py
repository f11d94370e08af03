"""``tunnelkit serve``: a relay, for as long as it runs."""

from __future__ import annotations

from typing import Any

import click

from tunnelkit.cli.common import RulesInOrder, example

__all__ = ["serve"]


class _EgressRules(RulesInOrder):
    rules_prefix = "--egress-"


@click.command(
    cls=_EgressRules,
    epilog=example(
        "tunnelkit serve --listen :8080 --domain tunnels.example.com --tcp-ports 20000-20099"
        " --token-file tokens"
    ),
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDR",
    help="Where agents and HTTP visitors come in: PORT, HOST:PORT, or :PORT for every address of this"
    " machine. Several times for several. [default: 127.0.0.1:8080]",
)
@click.option("--domain", help="HTTP tunnels get names below it. [default: each gets a port of its own]")
@click.option("--tcp-ports", metavar="FIRST-LAST", help="Ports for TCP tunnels. [default: none]")
@click.option(
    "--token",
    multiple=True,
    metavar="TOKEN",
    help="Who may open tunnels; several times for several. Every user of this machine can see it here:"
    " better give --token-file or TUNNELKIT_TOKEN.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="A file with one token a line, and its rights behind it; - for standard input.",
)
@click.option("--open", is_flag=True, default=None, help="Let everybody open tunnels, without a token.")
@click.option(
    "--ssh",
    multiple=True,
    metavar="ADDR",
    help="An address for SSH alone; at those of --listen it is spoken as well. Several times for several.",
)
@click.option(
    "--authorized-keys",
    metavar="FILE",
    help="Who may log in over SSH and open tunnels: public keys, as in OpenSSH's authorized_keys.",
)
@click.option(
    "--ssh-host-key",
    metavar="FILE",
    help="The SSH host key, made at the first start. [default: in the user's data directory]",
)
@click.option("--ssh-keys-only", is_flag=True, default=None, help="Take no tokens as passwords over SSH.")
@click.option(
    "--tls-cert",
    multiple=True,
    metavar="FILE",
    help="A certificate with its chain (PEM): HTTPS for visitors, wss:// for agents. Several times for"
    " several names. Read again when it changes.",
)
@click.option(
    "--tls-key",
    multiple=True,
    metavar="FILE",
    help="Its private key (PEM); one for each --tls-cert. [default: in the same file]",
)
@click.option(
    "--tls-self-signed",
    is_flag=True,
    default=None,
    help="Make a certificate, and print the fingerprint for the agents' --fingerprint.",
)
@click.option(
    "--plain-http",
    is_flag=True,
    default=None,
    help="With TLS: serve visitors without it, too. [default: they are redirected to https://]",
)
@click.option(
    "--hsts",
    metavar="SECONDS",
    help="With TLS: tell browsers to come with it only, for this long. [default: 0, not told]",
)
@click.option(
    "--proxy-protocol-from",
    multiple=True,
    metavar="CIDR",
    help="A load balancer's address or network: connections from there have to begin with a PROXY protocol"
    " header, version 1 or 2. Several times for several.",
)
@click.option(
    "--egress-source-ip",
    multiple=True,
    metavar="ADDRESS",
    help="Let proxies leave from this address (tunnelkit egress --via). Several times for a pool."
    " [default: they do not]",
)
@click.option(
    "--egress-allow",
    multiple=True,
    metavar="RULE",
    help="Where they may go; see tunnelkit egress --allow. [default: all public addresses]",
)
@click.option("--egress-deny", multiple=True, metavar="RULE", help="Where they may not go.")
@click.option(
    "--grace",
    metavar="SECONDS",
    help="Let running connections finish for this long at the end. [default: 30]",
)
@click.option(
    "--ping-interval",
    metavar="SECONDS",
    help="Ask silent agents whether they are there after this long. [default: 20]",
)
@click.option(
    "--ping-timeout",
    metavar="SECONDS",
    help="Give agents up that do not answer for this long. [default: 20]",
)
@click.pass_context
def serve(ctx: click.Context, /, **options: Any) -> None:
    """Run a relay: agents connect to it, visitors reach their tunnels through it.

    Agents, HTTP visitors and SSH clients share the --listen ports, so that one port is enough.
    """
    from tunnelkit.cli.serving import serve_visitors

    del options["egress_allow"], options["egress_deny"]
    options["egress_rules"] = ctx.obj or None
    # What can be given several times is an empty tuple where it is not given at all.
    serve_visitors({name: None if value == () else value for name, value in options.items()})

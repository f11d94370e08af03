"""What commands share: how values are read, and groups of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "Function",
    "RulesInOrder",
    "example",
    "grouped",
    "proof_options",
    "read_by",
    "relay_options",
    "take_rules",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """The end of a help text; ``\\b`` makes click keep the lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def read_by(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback for a parameter whose text ``read`` understands.

    Its InvalidError has a code and an exit status of its own, where a type's would be click's.
    """
    return lambda _ctx, _param, value: None if value is None else read(value)


def grouped(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several options as one decorator, in the order of the help text."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def take_rules(args: list[str], prefix: str = "--") -> tuple[list[str], list[str]]:
    """``--allow`` and ``--deny`` in ``args`` as one list, for their order decides; and what is left."""
    rules: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        option, equals, value = word.partition("=")
        action = option.removeprefix(prefix)
        if action == option or action not in ("allow", "deny"):
            rest.append(word)
            continue
        if not equals:
            value = next(words, "")
        if not value:
            rest.append(option)  # which click complains of
            break
        rules.append(f"{action} {value}")
    return rules, rest


class RulesInOrder(click.Command):
    """A command whose ``--allow`` and ``--deny`` come as one list, in the context's ``obj``."""

    rules_prefix = "--"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj, rest = take_rules(args, self.rules_prefix)
        return super().parse_args(ctx, rest)


proof_options: Callable[[Any], Any] = grouped(
    click.option(
        "--token",
        metavar="TOKEN",
        help="The relay's token. Every user of this machine can see it here: better give --token-file"
        " or TUNNELKIT_TOKEN.",
    ),
    click.option("--token-file", metavar="FILE", help="A file with the token; - is standard input."),
    click.option("--ca", metavar="FILE", help="The authorities (PEM) that sign the relay's certificate."),
    click.option("--fingerprint", metavar="SHA256", help="The relay's certificate itself, pinned."),
    click.option("--identity-file", metavar="FILE", help="The private key for SSH. [default: as ssh has it]"),
    click.option("--known-hosts", metavar="FILE", help="The host keys that SSH trusts. [default: ssh's own]"),
    click.option("--host-key", metavar="SHA256:…", help="The relay's SSH host key, pinned."),
)
"""How agent and relay prove to each other who they are."""

relay_options: Callable[[Any], Any] = grouped(
    click.option(
        "--relay",
        metavar="URL",
        help="wss://HOST, ws://HOST:PORT, ssh://HOST:PORT, or ssh+openssh://USER@HOST for any SSH server."
        " [default: one on this machine]",
    ),
    proof_options,
    click.option("--lan", is_flag=True, help="Without --relay: let other machines of this network in."),
)
"""Which relay, and how to prove who one is to it."""

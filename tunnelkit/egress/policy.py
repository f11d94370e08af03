"""Where a proxy's users may go: rules, first match wins.

::

    rule         allow | deny  DESTINATION
    DESTINATION  WHERE | WHERE:PORTS | :PORTS
    WHERE        *                      everywhere
                 www.example.com        this name
                 *.example.com          any name that ends so; * stands for any characters
                 192.0.2.1, [2001:db8::1]
                 192.0.2.0/24, [2001:db8::/32]
    PORTS        443 | 8000-8999 | 80,443,8000-8999
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tunnelkit.wire.address import IpAddress

__all__ = ["Policy", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rules."""

    allow: bool
    text: str

    @classmethod
    def parse(cls, action: Literal["allow", "deny"], destination: str) -> Rule:
        """See :mod:`tunnelkit.egress.policy`. :class:`InvalidError`, one line, for anything else."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{'allow' if self.allow else 'deny'} {self.text}"


class Policy:
    """Decides about destinations. Frozen: other rules are another policy."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        raise NotImplementedError

    @classmethod
    def parse(cls, rules: Iterable[str]) -> Policy:
        """Rules as texts, ``allow DESTINATION`` or ``deny DESTINATION``, in order. :class:`InvalidError`."""
        raise NotImplementedError

    def refuses_name(self, name: str, port: int) -> str | None:
        """Why no address of ``name`` would be allowed, known without a lookup; None to look it up."""
        raise NotImplementedError

    def refuses(self, name: str | None, address: IpAddress, port: int) -> str | None:
        """Why a connection to ``address`` is refused; None: it is allowed.

        ``name`` is what the client asked for, normalised; None if it gave the address itself.
        """
        raise NotImplementedError

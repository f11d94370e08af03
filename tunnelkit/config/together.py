"""Which settings of a relay go together."""

from __future__ import annotations

from collections.abc import Sequence

from tunnelkit.errors import InvalidError

__all__ = ["check_tls"]


def check_tls(
    certificates: Sequence[str], keys: Sequence[str], *, self_signed: bool, options: dict[str, object]
) -> None:
    """Raise InvalidError where what is said of TLS contradicts itself; ``options`` are for TLS alone."""
    if keys and len(keys) != len(certificates):
        raise InvalidError(
            f"There are {len(certificates)} certificates, and {len(keys)} keys for them",
            hint="Give a --tls-key for each --tls-cert, in the same order",
        )
    if self_signed and certificates:
        raise InvalidError(
            "The relay is told to make a certificate, and to take one", hint="Leave out one of the two"
        )
    if not (self_signed or certificates):
        for name in [name for name, value in options.items() if value]:
            raise InvalidError(
                f"{name} is for a relay with TLS", hint="Give --tls-cert and --tls-key, or --tls-self-signed"
            )

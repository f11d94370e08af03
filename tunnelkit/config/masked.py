"""Secrets that do not show."""

from __future__ import annotations

import hmac
from typing import Final

__all__ = ["NO_SECRET", "Masked"]


class Masked:
    """A secret text that no ``repr``, ``str``, format or log shows; :meth:`reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masked):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Masked, self._text))

    def __repr__(self) -> str:
        return "Masked(…)" if self._text else "Masked()"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled")


NO_SECRET: Final = Masked()

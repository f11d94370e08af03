"""Environments: the same names with other values, for development, for production."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tunnelkit.config.names import check_name

__all__ = ["MAIN", "VARIABLE", "environment"]

MAIN = "main"
"""The environment where none is named. It always exists."""

VARIABLE = "TUNNELKIT_ENVIRONMENT"


def environment(name: str | None = None, *, environ: Mapping[str, str] | None = None) -> str:
    """The environment that is meant: ``name``, or else ``TUNNELKIT_ENVIRONMENT``, or else ``main``.

    Raises InvalidNameError. Whether it exists, the store says when it is asked.
    """
    if name is not None:
        return check_name(name, what="environment")
    given = (os.environ if environ is None else environ).get(VARIABLE, "")
    return check_name(given, what=f"environment (from {VARIABLE})") if given else MAIN

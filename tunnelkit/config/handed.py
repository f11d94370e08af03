"""An agent's settings that a process was handed in memory: its environment would show them to others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Final

from tunnelkit.config.settings import AgentSettings

__all__ = ["agent_variables", "hand", "surroundings"]

_VARIABLES: Final = frozenset(
    f"TUNNELKIT_{field.name.upper()}" for field in dataclasses.fields(AgentSettings)
)


class _Handed:
    """What stands for this process."""

    variables: Mapping[str, str] = {}


_handed: Final = _Handed()


def agent_variables() -> dict[str, str]:
    """What of this process's surroundings says how its tunnels reach their relay, to be handed on."""
    return {name: value for name, value in surroundings().items() if name in _VARIABLES}


def hand(variables: Mapping[str, str]) -> None:
    """Have the tunnels of this process use ``variables``, as if they stood in its environment."""
    _handed.variables = dict(variables)


def surroundings() -> Mapping[str, str]:
    """The environment, and what was handed.

    Nothing that was handed counts where the environment has any such variable itself: a token is
    never sent to a relay that somebody else has named.
    """
    if _VARIABLES & os.environ.keys():
        return os.environ
    return {**os.environ, **_handed.variables}

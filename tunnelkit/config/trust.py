"""What a settings file that happens to be in the working directory may decide, and what not.

A checkout from a stranger can bring a ``tunnelkit.toml``. It may name a relay, but that relay is not given a
token that this user keeps elsewhere; and it may not say how this user's own relay is recognised. The reasons
are in ``docs/decisions/0012-settings-files-and-trust.md``.

Levels come in the order of precedence; the first is the call itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tunnelkit.config.readers import relay
from tunnelkit.config.sources import Given, Level, Mistake, user_file
from tunnelkit.errors import AuthError, InvalidError, TunnelkitError

__all__ = ["agent_levels", "egress_levels", "exit_levels", "foreign_file", "relay_levels"]

_TOKEN = frozenset({"token", "token_file"})
_PROOFS = _TOKEN | {"ca", "fingerprint", "host_key", "identity_file", "known_hosts"}
_KEYS = frozenset({"authorized_keys"})
_ENTRY = _TOKEN | _KEYS | {"open"}
_CLIENTS = frozenset({"users", "client", "open"})
_WHERE = frozenset({"rules"})


def agent_levels(levels: Sequence[Level]) -> tuple[list[Level], Mistake | None]:
    """What of each source counts for an agent, and what is wrong with that.

    There are two sides: this user's own sources, and the file in the working directory. A token goes to a
    relay that its own side names.
    """
    named = next((level["relay"] for level in levels if "relay" in level), None)
    if named is not None and not named.own:
        return _for_a_found_relay(levels, named)
    counting = _without(_PROOFS, levels, own=False)
    # A token without a relay beside it was meant for this one: told rather than left out in silence.
    loose = _tokens(level for level in levels if _is_found(level) and "relay" not in level)
    if named is not None and _address(named) and loose and not _tokens(counting):
        error = AuthError(
            f"This token is not sent to the relay of {named.place}",
            hint="Write the relay that it is for beside it, or give the token with --token-file",
        )
        return counting, Mistake.of(loose[0], error)
    return counting, None


def _for_a_found_relay(levels: Sequence[Level], named: Given) -> tuple[list[Level], Mistake | None]:
    own = [level for level in levels if not _is_found(level)]
    typed = _tokens(levels[:1])
    if not typed and _tokens(level for level in levels if _is_found(level)):
        return _without(_TOKEN, levels, own=True), None  # it brings its own
    tokens = _tokens(own)
    if not tokens or not _address(named):
        return list(levels), None
    if any(_address(level["relay"]) == _address(named) for level in own if "relay" in level):
        # This user's own file names it, too: then that says how it is recognised, and no other.
        return _without(_PROOFS, levels, own=False), None
    error = AuthError(
        f"A relay that the working directory's file names is not sent the token of {tokens[0].place}",
        hint=f"If it is yours, name it with --relay, TUNNELKIT_RELAY or in {user_file()}",
    )
    return list(levels), Mistake.of(named, error)


def relay_levels(levels: Sequence[Level]) -> tuple[list[Level], Mistake | None]:
    """What of each source counts for a relay: who may open tunnels, its user says before any file found."""
    said = {name for level in levels if not _is_found(level) for name in level.keys() & _ENTRY}
    if not said:
        return list(levels), None
    counting = _without(_ENTRY, levels, own=False)
    # Keys and tokens stand beside each other: those that are left out are told of, not those in whose place
    # this user's own stand.
    replaced = (_KEYS if said & _KEYS else frozenset()) | (_TOKEN if said - _KEYS else frozenset())
    for level in filter(_is_found, levels):
        for name in sorted((_KEYS | _TOKEN) & level.keys() - replaced):
            error = AuthError(
                "A file in the working directory lets nobody in beside those whom its user names",
                hint=f"Give it on the command line, with TUNNELKIT_{name.upper()} or in {user_file()}",
            )
            return counting, Mistake.of(level[name], error)
    return counting, None


def egress_levels(levels: Sequence[Level]) -> tuple[list[Level], Mistake | None]:
    """What counts for an egress proxy: by whom it leaves, its user says, and who may use it, first."""
    return _first_own(_CLIENTS, levels), _refused(levels, ("via", "upstream"), "egress")


def exit_levels(levels: Sequence[Level]) -> tuple[list[Level], Mistake | None]:
    """What counts for an exit: where others may go from this machine, its user says before any file found."""
    return _first_own(_WHERE, levels), None


def _first_own(names: frozenset[str], levels: Sequence[Level]) -> list[Level]:
    """``levels``, in which a found file says nothing of ``names`` if this user does of one of them."""
    said = any(names & level.keys() for level in levels if not _is_found(level))
    return _without(names, levels, own=False) if said else list(levels)


def _refused(levels: Sequence[Level], names: Iterable[str], command: str) -> Mistake | None:
    for level in levels:
        for name in names:
            if name in level and not level[name].own:
                error = AuthError(
                    f"A file in the working directory does not decide this for `tunnelkit {command}`",
                    hint=f"Give it on the command line, with TUNNELKIT_{command.upper()}_{name.upper()}"
                    f" or in {user_file()}",
                )
                return Mistake.of(level[name], error)
    return None


def foreign_file(setting: str, given: Given) -> InvalidError | None:
    """Why a file in the working directory may not name this file; None if it may.

    A token file would be sent to its relay, a log written to.
    """
    option = {"token_file": "--token-file", "access_log": "--access-log"}.get(setting)
    if option is None or given.own or given.path is None:
        return None
    home = given.path.parent.resolve()
    name = str(given.value)
    if setting == "access_log" and name in ("-", "off"):
        return None
    if name != "-" and (home / Path(name).expanduser()).resolve().is_relative_to(home):
        return None
    return InvalidError(
        f"{name[:200]!r} is not below {home}",
        hint=f"A file in the working directory names files beside itself only; give {option}",
    )


def _is_found(level: Level) -> bool:
    return any(not given.own for given in level.values())


def _tokens(levels: Iterable[Level]) -> list[Given]:
    return [given for level in levels for name, given in level.items() if name in _TOKEN]


def _without(names: Iterable[str], levels: Iterable[Level], *, own: bool) -> list[Level]:
    """``levels``, of which those of one side have lost ``names``."""
    return [
        {name: given for name, given in level.items() if given.own != own or name not in names}
        for level in levels
    ]


def _address(given: Given) -> str:
    """The relay's address; empty for one on this machine."""
    try:
        return str(relay(given.value))
    except TunnelkitError:
        return repr(given.value)  # which is refused by itself

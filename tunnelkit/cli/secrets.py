"""What the commands of ``tunnelkit secret`` do."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tunnelkit.cli.asking import ask_hidden, can_ask, confirm, piped
from tunnelkit.cli.stored import about, moment, opened, print_json, print_table, say
from tunnelkit.config.dotenv import read_dotenv, read_json
from tunnelkit.config.environment import environment
from tunnelkit.config.masked import Masked
from tunnelkit.config.names import MAX_SIZE, check_key, check_keys, check_name, check_values
from tunnelkit.config.store import Kind, Ref, Write
from tunnelkit.errors import CommandError, CommandNotFoundError, InvalidError, UsageError

__all__ = [
    "audit",
    "become",
    "create",
    "delete",
    "history",
    "list_all",
    "read_values",
    "rollback",
    "rotate_key",
    "show",
    "update",
]


def _ref(name: str, env: str | None) -> Ref:
    if "=" in name:
        raise UsageError("The secret's name comes first, and has no '=' in it", hint="Give NAME KEY=VALUE")
    return Ref(Kind.SECRET, check_name(name, what="secret"), environment(env))


def create(name: str, env: str | None, *, force: bool, **values: Any) -> None:
    """Write a secret, or a version of it that has these variables alone; ``values`` as for read_values."""
    ref = _ref(name, env)
    variables = read_values(**values)
    with opened() as store:
        version = store.write(ref, variables, mode=Write.REPLACE if force else Write.CREATE)
    say(f"{_sentence(ref)} is version {version}, with {_listed(variables)}")


def update(name: str, env: str | None, *, unset: Sequence[str], **values: Any) -> None:
    """Write a version of a secret that has these variables, too, and ``unset`` no longer."""
    ref = _ref(name, env)
    remove = check_keys(unset)
    variables = read_values(**values, may_be_none=bool(remove))
    if both := variables.keys() & set(remove):
        raise UsageError(f"Set and taken out at once: {_listed(both)}", hint="Leave out one of the two")
    with opened() as store:
        version = store.write(ref, variables, mode=Write.UPDATE, remove=remove)
        entry = store.entry(ref)
    say(f"{_sentence(ref)} is version {version}, with {_listed(entry.keys)}")


def list_all(env: str | None, *, as_json: bool) -> None:
    """Print the secrets of an environment."""
    place = environment(env)
    with opened() as store:
        entries = store.entries(Kind.SECRET, place)
    if as_json:
        print_json([about(entry) for entry in entries])
    elif not entries:
        say(f"There is no secret in environment {place!r}")
    else:
        print_table(
            ("NAME", "VERSION", "CHANGED", "LAST USED", "VARIABLES"),
            (
                (it.ref.name, it.version, moment(it.updated_at), moment(it.last_used_at), " ".join(it.keys))
                for it in entries
            ),
        )


def show(name: str, env: str | None, *, as_json: bool) -> None:
    """Print what may be known of a secret."""
    with opened() as store:
        entry = store.entry(_ref(name, env))
    if as_json:
        print_json(about(entry))
        return
    used = f"{moment(entry.last_used_at)}{f' by {entry.last_used_by}' if entry.last_used_by else ''}"
    facts = {
        "name": entry.ref.name,
        "environment": entry.ref.environment,
        "variables": " ".join(entry.keys),
        "version": entry.version,
        "created": f"{moment(entry.created_at)} by {entry.created_by}",
        "changed": f"{moment(entry.updated_at)} by {entry.updated_by}",
        "last used": used,
    }
    print_table(None, facts.items())


def delete(name: str, env: str | None, *, allow_missing: bool, yes: bool) -> None:
    """Delete a secret, if that is meant."""
    ref = _ref(name, env)
    confirm(f"Delete the {ref} with all its versions?", yes=yes)
    with opened() as store:
        gone = store.delete(ref, allow_missing=allow_missing)
    say(f"{_sentence(ref)} is deleted" if gone else f"There was no {ref}")


def history(name: str, env: str | None, *, as_json: bool) -> None:
    """Print the versions of a secret."""
    with opened() as store:
        versions = store.history(_ref(name, env))
    if as_json:
        print_json(
            [
                {
                    "version": it.number,
                    "current": it.current,
                    "keys": list(it.keys),
                    "created_at": it.created_at.isoformat(),
                    "created_by": it.created_by,
                }
                for it in versions
            ]
        )
        return
    print_table(
        ("VERSION", "CREATED", "BY", "VARIABLES"),
        (
            (
                f"{it.number}{'*' if it.current else ''}",
                moment(it.created_at),
                it.created_by,
                " ".join(it.keys),
            )
            for it in versions
        ),
    )


def rollback(name: str, version: int, env: str | None) -> None:
    """Make what an old version holds the newest."""
    ref = _ref(name, env)
    with opened() as store:
        number = store.rollback(ref, version)
    say(f"{_sentence(ref)} is version {number}, which holds what version {version} does")


def audit(limit: int, *, as_json: bool) -> None:
    """Print the newest entries of the audit log."""
    with opened() as store:
        entries = store.audit(limit=limit)
    if as_json:
        print_json(
            [
                {
                    "time": it.time.isoformat(),
                    "action": it.action,
                    "kind": it.kind,
                    "environment": it.environment,
                    "name": it.name,
                    "keys": list(it.keys),
                    "version": it.version,
                    "actor": it.actor,
                    "process": it.process,
                }
                for it in entries
            ]
        )
        return
    print_table(
        ("TIME", "ACTION", "WHAT", "NAME", "ENVIRONMENT", "BY", "PROCESS"),
        (
            (moment(it.time), it.action, it.kind, it.name, it.environment, it.actor, it.process)
            for it in entries
        ),
    )


def rotate_key(to: str | None) -> None:
    """Encrypt the data keys with another key."""
    with opened() as store:
        done = store.rotate_key(to)
    say(
        f"The key is {done.new_key} ({done.source}) now, and was {done.old_key}: {done.rewrapped:,} rewrapped"
    )


# --- values -------------------------------------------------------------------------------------


def read_values(
    assignments: Sequence[str],
    from_dotenv: Sequence[str] = (),
    from_json: Sequence[str] = (),
    *,
    may_be_none: bool = False,
) -> dict[str, Masked]:
    """The variables that a command line names; those on it come before those in files.

    No error shows an argument: whatever stands there may be a value in the wrong place.
    """
    given = [_assignment(number, text) for number, text in enumerate(assignments, 1)]
    if len({key for key, _ in given}) < len(given):
        raise UsageError("A variable is given twice", hint="Give each KEY=VALUE once")
    typed = [key for key, value in given if value == "-"]
    piped = [path for path in (*from_dotenv, *from_json) if path == "-"]
    if len(typed) + len(piped) > 1 and (piped or not can_ask()):
        raise UsageError("Standard input is asked for twice", hint="Give one - and the rest from files")
    values: dict[str, str | None] = {}
    for path in from_dotenv:
        values |= read_dotenv(path)
    for path in from_json:
        values |= read_json(path)
    for key, value in given:
        values[key] = _from_input(key) if value == "-" else value
    checked = check_values(values)
    if not checked and not may_be_none:
        raise UsageError("There are no variables", hint="Give KEY=VALUE, KEY=-, --from-dotenv or --from-json")
    return checked


def _assignment(number: int, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"Argument {number} after the name has no '='",
            hint="Give KEY=VALUE, or KEY=- to have the value read from standard input",
        )
    check_key(key)
    if not value:
        raise UsageError(
            f"Argument {number} after the name has nothing after its '='",
            hint="Give KEY=VALUE or KEY=-; an empty value comes with --from-dotenv or --from-json",
        )
    return key, value


def _from_input(key: str) -> str:
    """The value of ``key``, typed unseen or piped in; one line end after it is not part of it."""
    if can_ask():
        return ask_hidden(f"Value of {key}")
    data = piped(MAX_SIZE + len("\r\n") + 1).removesuffix(b"\n").removesuffix(b"\r")
    if len(data) > MAX_SIZE:
        raise InvalidError(f"Standard input has more than {MAX_SIZE:,} bytes", hint="Is it the right file?")
    if not data:
        raise InvalidError(
            f"Standard input has no value for {key}", hint="Pipe it in, or run this on a terminal"
        )
    return data.decode(errors="surrogateescape")


def _sentence(ref: Ref) -> str:
    text = str(ref)
    return text[0].upper() + text[1:]


def _listed(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys) if len(keys) <= 8 else f"{len(keys):,} variables"


# --- run ----------------------------------------------------------------------------------------


def become(names: Sequence[str], command: Sequence[str], env: str | None) -> NoReturn:
    """Give this process over to ``command``, with the variables of the secrets added.

    Raises CommandError, CommandNotFoundError, and what reading the secrets raises.
    """
    refs = [_ref(name, env) for name in names]
    added: dict[str, str] = {}
    with opened() as store:
        for ref in refs:
            added |= {key: value.reveal() for key, value in store.read(ref).items()}
    _restore_signals()
    problem = 0
    try:
        os.execvpe(command[0], list(command), {**_own_environment(), **added})  # noqa: S606 - the very purpose
    except OSError as error:
        problem = error.errno or 0
    except ValueError:
        problem = errno.EINVAL  # a NUL in an argument
    # Outside of the except clause: the error of execvpe has frames that hold the variables.
    raise _not_started(command[0], problem)


def _own_environment() -> dict[str, str]:
    """What this process was given: where the locale is C, Python puts an LC_CTYPE of its own (PEP 538)."""
    environ = dict(os.environ)
    try:
        given = Path("/proc/self/environ").read_bytes()  # proc(5); elsewhere that one variable stays
    except OSError:
        return environ
    environ.pop("LC_CTYPE", None)
    for variable in given.split(b"\0"):
        if variable.startswith(b"LC_CTYPE="):
            environ["LC_CTYPE"] = os.fsdecode(variable.removeprefix(b"LC_CTYPE="))
    return environ


def _restore_signals() -> None:
    """As a program expects them: Python ignores some, which exec would hand on."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)


def _not_started(name: str, problem: int) -> CommandError:
    if problem in (errno.ENOENT, errno.ENOTDIR):
        return CommandNotFoundError(f"There is no command {name[:200]!r}")
    hints = {
        errno.EACCES: "Is it a program, and may this user run it?",
        errno.ENOEXEC: "It is neither a program nor a script that begins with #!",
        errno.E2BIG: "The secrets are too large: Linux takes 128 kB a variable, and 2 MB in all",
    }
    hint = hints.get(problem, "")
    return CommandError(f"{name[:200]!r} cannot be started: {os.strerror(problem)}", hint=hint)

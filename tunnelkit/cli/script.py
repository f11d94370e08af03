"""Scripts with an :class:`~tunnelkit.functions.App`: loading one, finding its entry point, calling it."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tunnelkit.cli.output import stderr
from tunnelkit.cli.progress import Progress
from tunnelkit.cli.signature import options_of
from tunnelkit.errors import NotFoundError, ScriptError, TunnelkitError
from tunnelkit.functions import App, Function
from tunnelkit.functions.engine import close, observe

__all__ = ["run_script"]


def run_script(what: str, arguments: Sequence[str]) -> None:
    """Run ``SCRIPT[::ENTRY]``. Raises NotFoundError, ScriptError, and what click raises for arguments."""
    path, _, entry = what.partition("::")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the script's own code may want to know
    with Progress() as progress:
        observe(on_line=progress.line, on_change=progress.changed)
        try:
            module = _load(Path(path))
            name, call = _entry(module, path, entry)
            command = click.Command(
                name,
                params=options_of(call, path),
                callback=lambda **given: _call(call, given, path),
                help=inspect.getdoc(call),
                context_settings={"help_option_names": ["-h", "--help"]},
            )
            with command.make_context(f"tunnelkit run {what}", [*arguments]) as context:
                command.invoke(context)
        finally:
            close()


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        hint = "Give the path of a Python file; ENTRY comes behind ::"
        raise NotFoundError(f"There is no script {path}", hint=hint)
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} is no Python script", hint="Its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # as `python SCRIPT` has it
    sys.argv[:] = [str(path)]
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except TunnelkitError:
        raise
    except Exception as error:
        raise ScriptError(
            _why(path, error), hint="Correct it, or see whether `python` itself runs it"
        ) from error
    _send_by_value(module)
    return module


def _send_by_value(module: ModuleType) -> None:
    """A function's process gets what it uses of the script, and does not run the script again."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _why(path: Path, error: Exception) -> str:
    what = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{path} cannot be read, line {error.lineno}: {what}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path.resolve())]
    return f"{path} failed while it was loaded, line {lines[-1] if lines else '?'}: {what}"


def _entry(module: ModuleType, path: str, wanted: str) -> tuple[str, Callable[..., Any]]:
    apps = [value for value in vars(module).values() if isinstance(value, App)]
    entries = {name: call for app in apps for name, call in app.entrypoints.items()}
    functions: dict[str, Any] = {name: f for app in apps for name, f in app.functions.items()}
    functions |= {name: value for name, value in vars(module).items() if isinstance(value, Function)}
    callable_ = {name: _Remotely(function) for name, function in functions.items()} | entries
    if not wanted:
        choice = entries or callable_
        if len(choice) == 1:
            return next(iter(choice.items()))
        if not choice:
            hint = "Put @app.local_entrypoint() above the function to begin with"
            raise NotFoundError(f"{path} has no entry point", hint=hint)
        hint = "Give one of " + ", ".join(f"{path}::{name}" for name in sorted(choice))
        raise NotFoundError(f"{path} has several entry points", hint=hint)
    if wanted not in callable_:
        hint = f"It has {', '.join(sorted(callable_)) or 'none'}"
        raise NotFoundError(f"{path} has no entry point {wanted}", hint=hint)
    return wanted, callable_[wanted]


class _Remotely:
    """A function as an entry point: called in its own process, with its result shown."""

    def __init__(self, function: Function[..., Any]) -> None:
        self._function = function
        self.__doc__ = inspect.getdoc(function.spec.call)
        self.__signature__ = inspect.signature(function.spec.call, eval_str=True)

    def __call__(self, **given: Any) -> None:
        result = self._function.remote(**given)
        if self._function.spec.is_generator:
            for item in result:
                click.echo(item)
        elif result is not None:
            click.echo(result)


def _call(call: Callable[..., Any], given: dict[str, Any], path: str) -> None:
    try:
        result = call(**given)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except (TunnelkitError, click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        _show(error, path)
        raise click.exceptions.Exit(1) from error


def _show(error: Exception, path: str) -> None:
    """The traceback from the script's own first line on."""
    shown = traceback.TracebackException.from_exception(error)
    own = [n for n, frame in enumerate(shown.stack) if frame.filename == str(Path(path).resolve())]
    shown.stack = traceback.StackSummary.from_list(shown.stack[own[0] :] if own else [])
    for line in "".join(shown.format()).splitlines():
        stderr().line(line)

"""What the commands of ``tunnelkit proxy`` do."""

from __future__ import annotations

from collections.abc import Sequence

from tunnelkit.cli.asking import ask_hidden, can_ask, confirm, piped
from tunnelkit.cli.stored import about, moment, opened, print_json, print_table, say
from tunnelkit.config.environment import environment
from tunnelkit.config.names import check_name
from tunnelkit.config.proxy import Route, check_route, route_of, variables_of
from tunnelkit.config.store import Entry, Kind, Ref, Store, Write
from tunnelkit.errors import InvalidError, UsageError

__all__ = ["create", "delete", "list_all", "show"]

MAX_URL = 4096
"""Bytes of a gateway's URL: more than any password in one."""


def _ref(name: str, env: str | None) -> Ref:
    return Ref(Kind.PROXY, check_name(name, what="proxy"), environment(env))


def create(name: str, env: str | None, *, ips: Sequence[str], gateway: str | None, force: bool) -> None:
    """Store a proxy."""
    ref = _ref(name, env)
    if bool(ips) == (gateway is not None):
        raise UsageError("A proxy is either addresses or a gateway", hint="Give --ip, or --gateway")
    if gateway == "-":
        gateway = ask_hidden("URL of the gateway") if can_ask() else _piped_url()
    route = check_route(ips, gateway)
    with opened() as store:
        store.write(ref, variables_of(route), mode=Write.REPLACE if force else Write.CREATE)
    say(f"Connections through {ref} leave by {route.shown}")


def _piped_url() -> str:
    data = piped(MAX_URL + 1)
    if len(data) > MAX_URL:
        raise InvalidError(f"Standard input has more than {MAX_URL:,} bytes", hint="Is it the right file?")
    if not (url := data.decode(errors="replace").strip()):
        raise InvalidError("Standard input has no URL", hint="Pipe it in, or run this on a terminal")
    return url


def list_all(env: str | None, *, as_json: bool) -> None:
    """Print the proxies of an environment."""
    place = environment(env)
    with opened() as store:
        proxies = [(entry, _route(store, entry)) for entry in store.entries(Kind.PROXY, place)]
    if as_json:
        print_json([_about(entry, route) for entry, route in proxies])
    elif not proxies:
        say(f"There is no proxy in environment {place!r}")
    else:
        rows = (
            (entry.ref.name, moment(entry.created_at), route.kind, route.shown) for entry, route in proxies
        )
        print_table(("NAME", "CREATED", "KIND", "LEAVES BY"), rows)


def show(name: str, env: str | None, *, as_json: bool) -> None:
    """Print what may be known of a proxy."""
    with opened() as store:
        entry = store.entry(_ref(name, env))
        route = _route(store, entry)
    if as_json:
        print_json(_about(entry, route))
        return
    facts = {
        "name": entry.ref.name,
        "environment": entry.ref.environment,
        route.kind: route.shown,
        "created": f"{moment(entry.created_at)} by {entry.created_by}",
        "changed": f"{moment(entry.updated_at)} by {entry.updated_by}",
    }
    print_table(None, facts.items())


def delete(name: str, env: str | None, *, allow_missing: bool, yes: bool) -> None:
    """Delete a proxy, if that is meant."""
    ref = _ref(name, env)
    confirm(f"Delete the {ref}?", yes=yes)
    with opened() as store:
        gone = store.delete(ref, allow_missing=allow_missing)
    say(f"Proxy {ref.name!r} is deleted" if gone else f"There was no {ref}")


def _route(store: Store, entry: Entry) -> Route:
    return route_of(store.read(entry.ref, is_use=False))


def _about(entry: Entry, route: Route) -> dict[str, object]:
    facts = about(entry)
    del facts["keys"]
    return facts | {"kind": route.kind, "route": route.shown}

"""What a visitor sees when there is no answer from a service: HTML for browsers, text for the rest."""

from __future__ import annotations

from html import escape
from http import HTTPStatus

__all__ = ["error_page"]

_WORDS = {
    "no_tunnel": (
        "There is no tunnel here",
        "No tunnel has the name {host}. Check the address, or start the tunnel.",
    ),
    "agent_away": (
        "The tunnel is offline",
        "The program that serves {host} is not connected right now.",
    ),
    "relay_starting": (
        "The tunnel is not back yet",
        "The relay has just started. If there is a tunnel for {host}, it is back in a moment: try again.",
    ),
    "limit": ("The tunnel is busy", "Too many visitors wait for {host}. Try again in a moment."),
    "body_timeout": ("The request stopped", "The rest of the request for {host} did not arrive in time."),
    "service_refused": (
        "The service is not running",
        "The tunnel for {host} is up, but nothing answers behind it.",
    ),
    "service_closed": (
        "The service hung up",
        "The service behind {host} closed the connection without an answer.",
    ),
    "service_invalid": (
        "The service made no sense",
        "The service behind {host} sent what is no HTTP answer.",
    ),
    "service_timeout": (
        "The service took too long",
        "The service behind {host} did not answer in time.",
    ),
}

_RETRY_AFTER = {"relay_starting": 1}
"""Seconds after which another try is worth it (RFC 9110 §10.2.3): most agents are back by then."""

_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1rem;
  color:#222;background:#fff}}
h1{{font-size:1.4rem}}code{{background:#eee;padding:.1em .3em;border-radius:.2em}}p:last-child{{color:#666}}
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}code{{background:#333}}}}</style>
<h1>{title}</h1><p>{text}</p><p>{status} {reason} &middot; <code>{code}</code> &middot; tunnelkit</p></html>
"""


def error_page(
    status: int, code: str, *, host: str = "", html: bool = False, what: str = "", body: bool = True
) -> bytes:
    """A whole HTTP answer that ends its connection. ``code`` is stable: see ``docs/errors.md``.

    ``body``: False for an answer to HEAD. Nothing of the service's own errors is shown to visitors.
    """
    reason = HTTPStatus(status).phrase
    title, text = _WORDS.get(code, (reason, ""))
    text = what or text.format(host=host or "this address")
    if html:
        page = _HTML.format(
            title=escape(title), text=escape(text), status=status, reason=reason, code=escape(code)
        )
        kind = "text/html"
    else:
        sentences = f"{title}. {text}" if code in _WORDS else text
        page = ": ".join(filter(None, (f"{status} {reason}", sentences))) + f" [{code}]\n"
        kind = "text/plain"
    content = page.encode()
    retry = f"Retry-After: {_RETRY_AFTER[code]}\r\n" if code in _RETRY_AFTER else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\n"
        f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        f"Tunnelkit-Error: {code}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{retry}Connection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")

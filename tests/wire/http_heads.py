"""Heads to test with, and what another parser makes of them."""

from __future__ import annotations

from typing import Any

import httptools


def head(*lines: str, start: str = "GET / HTTP/1.1", host: str | None = "app.test") -> bytes:
    named = () if host is None else (f"Host: {host}",)
    return "".join(f"{line}\r\n" for line in (start, *named, *lines, "")).encode("latin-1")


def answer(*lines: str, start: str = "HTTP/1.1 200 OK") -> bytes:
    return head(*lines, start=start, host=None)


class Oracle:
    """What llhttp makes of a head."""

    def __init__(self, data: bytes, kind: Any = httptools.HttpRequestParser) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.parser = kind(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def all(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field.lower() == name]

from __future__ import annotations

import pytest

from tunnelkit.relay.pages import error_page


def test_a_page_is_plain_text_with_its_code() -> None:
    head, _, body = error_page(503, "agent_away", host="app.test").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in head
    assert b"Tunnelkit-Error: agent_away\r\n" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert b"Connection: close" in head
    assert b"app.test" in body
    assert body.endswith(b" [agent_away]\n")


def test_a_browser_gets_html() -> None:
    head, _, body = error_page(404, "no_tunnel", host="app.test", html=True).partition(b"\r\n\r\n")
    assert b"Content-Type: text/html; charset=utf-8\r\n" in head
    assert body.startswith(b"<!doctype html>")
    assert b"<code>no_tunnel</code>" in body


def test_a_page_for_head_has_the_length_and_no_body() -> None:
    page = error_page(404, "no_tunnel")
    head, _, body = error_page(404, "no_tunnel", body=False).partition(b"\r\n\r\n")
    assert not body
    assert page.startswith(head)


@pytest.mark.parametrize("html", [False, True])
def test_what_is_wrong_is_shown_as_it_is(html: bool) -> None:
    page = error_page(400, "http_head", what="'{0}<b>' is no field name", html=html)
    assert (b"&#x27;{0}&lt;b&gt;&#x27;" if html else b"'{0}<b>'") in page


def test_a_code_of_a_newer_agent_has_a_page_too() -> None:
    assert error_page(502, "service_odd").endswith(b"\r\n\r\n502 Bad Gateway [service_odd]\n")


def test_who_should_try_again_soon_is_told_when() -> None:
    head, _, body = error_page(503, "relay_starting", host="app.test").partition(b"\r\n\r\n")
    assert b"\r\nRetry-After: 1\r\n" in head
    assert body.endswith(b" [relay_starting]\n")
    assert b"Retry-After" not in error_page(404, "no_tunnel")

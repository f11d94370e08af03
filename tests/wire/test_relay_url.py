from __future__ import annotations

import pytest

from tunnelkit.errors import InvalidError
from tunnelkit.wire.relay_url import RelayUrl


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://relay", RelayUrl("ws", "relay", 80)),
        ("wss://Relay.Test/", RelayUrl("wss", "relay.test", 443)),
        ("ssh://relay", RelayUrl("ssh", "relay", 22)),
        ("ssh://relay:2222", RelayUrl("ssh", "relay", 2222)),
        ("ssh://me@[::1]:2222", RelayUrl("ssh", "::1", 2222, "me")),
        ("ssh+openssh://me@host", RelayUrl("ssh+openssh", "host", 22, "me")),
        ("ssh+openssh://a%40b@host:22", RelayUrl("ssh+openssh", "host", 22, "a@b")),
    ],
)
def test_what_is_an_address_stays_one(text: str, url: RelayUrl) -> None:
    assert RelayUrl.parse(text) == url
    assert RelayUrl.parse(str(url)) == url
    assert url.is_ssh == text.startswith("ssh")
    assert url.secure == text.startswith("wss")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relay",
        "ftp://relay",
        "ssh://",
        "ssh://relay:0",
        "ssh://relay:70000",
        "ssh://relay/path",
        "ssh://me:hush@relay",
        "ssh://me:@relay",
        "ssh+openssh://a%0Ab@relay",
        "ws://hush@relay",
        "wss://me:hush@relay",
        "https://relay",
        "ssh+other://relay",
    ],
)
def test_what_is_none_is_refused_and_no_password_shown(text: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        RelayUrl.parse(text)
    assert "hush" not in str(refusal.value)

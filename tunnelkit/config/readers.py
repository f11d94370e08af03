"""Readers: from what a source holds to a value.

Each takes what TOML, Python or a piece of text can hold, and raises InvalidError. Its docstring is how
``docs/reference/settings.md`` describes what it takes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.errors import AuthMissingError, InvalidError
from tunnelkit.wire.address import ip_address, parse_listen, parse_port_range, split_host, tunnel_name
from tunnelkit.wire.networks import Networks
from tunnelkit.wire.relay_url import RelayUrl

__all__ = [
    "LOCAL",
    "Reader",
    "clients",
    "count",
    "domain",
    "exit_name",
    "files",
    "host_key",
    "keys_file",
    "labels",
    "listen",
    "log_file",
    "name",
    "networks",
    "path",
    "positive",
    "rate",
    "relay",
    "rules",
    "seconds",
    "sha256",
    "some",
    "switch",
    "tcp_ports",
    "texts",
    "token",
    "token_file",
    "upstream",
    "users_file",
    "whole_seconds",
    "word",
    "zone_relay",
]

Reader = Callable[[object], Any]

LOCAL: Final = "local"
"""The word for a relay that is started on this machine, where another source names one elsewhere."""

MAX_TOKEN = 1024
"""Bytes of a token, as a relay takes them."""

MAX_LABELS = 32
"""Labels that workers are chosen by: zone, region and a few of one's own."""

_SHA256 = re.compile(r"(?:sha256:)?(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}", re.IGNORECASE)
_HOST_KEY = re.compile(r"(?:SHA256:)?[A-Za-z0-9+/]{43}=?")

# The syntax of Kubernetes' labels, which is Ray's too.
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidError("Not a text", hint="Put quotes around it")
    return value.strip()


def _filled(value: object) -> str:
    if not (text := _text(value)):
        raise InvalidError("Empty", hint="Leave it out, or say what it is")
    return text


def relay(value: object) -> str:
    """`wss://HOST`, `ws://HOST:PORT`, `ssh://HOST:PORT`, `ssh+openssh://USER@HOST` or `local`"""
    if not (text := _text(value)):
        # A variable that was to be set and is not must not end in an address that nobody can reach.
        raise InvalidError("Empty", hint=f"Leave it out, or say {LOCAL!r} for a relay on this machine")
    return "" if text == LOCAL else str(RelayUrl.parse(text))


def zone_relay(value: object) -> str:
    """`wss://HOST`, `ws://HOST:PORT`, `ssh://HOST:PORT` or `ssh+openssh://USER@HOST`"""
    return str(RelayUrl.parse(_filled(value)))


def path(value: object) -> str:
    """a file"""
    return _filled(value)


def files(value: object) -> tuple[str, ...]:
    """a file, or a list; in a variable, one"""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or not (paths := tuple(map(_filled, value))):
        raise InvalidError("No file", hint="Leave it out, or name one")
    return paths


def sha256(value: object) -> str:
    """64 hexadecimal digits, with or without colons"""
    text = _filled(value)
    if not _SHA256.fullmatch(text):
        raise InvalidError(
            f"Not a SHA-256 fingerprint: {text[:100]!r}",
            hint="It has 64 hexadecimal digits: openssl x509 -noout -fingerprint -sha256 -in FILE",
        )
    return text


def host_key(value: object) -> str:
    """`SHA256:…`, as `ssh-keygen -l` shows it"""
    text = _filled(value)
    if not _HOST_KEY.fullmatch(text):
        raise InvalidError(
            f"Not the fingerprint of a host key: {text[:100]!r}",
            hint="It is SHA256: and 43 characters: ssh-keygen -lf FILE",
        )
    return text


def switch(value: object) -> bool:
    """`true` or `false`"""
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False, "": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise InvalidError(f"Neither true nor false: {value!r}", hint="Give one of the two")
    return words[value.strip().lower()]


def seconds(value: object) -> float:
    """seconds"""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidError(f"Not a number of seconds: {value!r}", hint="Give one such as 30") from None
    if not (math.isfinite(number) and number >= 0):
        raise InvalidError(f"Not a length of time: {value!r}", hint="Give seconds, 0 or more")
    return number


def positive(value: object) -> float:
    """seconds, above 0"""
    if not (number := seconds(value)):
        raise InvalidError("No time at all", hint="Give a number of seconds above 0")
    return number


def whole_seconds(value: object) -> int:
    """seconds, without a fraction"""
    if seconds(value) % 1:
        raise InvalidError(f"Not whole seconds: {value!r}", hint="Leave the fraction out")
    return int(seconds(value))


def listen(value: object) -> tuple[str, ...]:
    """`HOST:PORT`, or a list; in a variable, separated by commas or spaces"""
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if isinstance(value, int) and not isinstance(value, bool):
        value = [str(value)]
    if not isinstance(value, Iterable) or not (addresses := tuple(map(_text, value))):
        raise InvalidError("No address to listen at", hint="Give HOST:PORT, or several")
    for address in addresses:
        parse_listen(address)
    return addresses


def domain(value: object) -> str:
    """a domain name"""
    name = _text(value).strip(".").lower()
    if name:
        host, port = split_host(name, hint="Give a domain, such as tunnels.example.com")
        if port or ip_address(host) is not None:
            raise InvalidError(f"Not a domain: {name[:80]!r}", hint="Leave it out where there is none")
    return name


def tcp_ports(value: object) -> range:
    """`FIRST-LAST`"""
    if isinstance(value, range) and (not value or value.step == 1):
        value = f"{value.start}-{value.stop - 1}" if value else ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidError("Not a range of ports", hint="Give FIRST-LAST")
    return range(0) if value == "" else parse_port_range(value)


def token(value: object) -> Masked:
    """1 to 1,024 visible ASCII characters"""
    text = (value.reveal() if isinstance(value, Masked) else _text(value)).strip()
    if not text:
        raise AuthMissingError("The token is empty")
    # RFC 6750 §2.1 allows fewer; what is not visible ASCII does not survive an HTTP header.
    if len(text) > MAX_TOKEN or not all("!" <= character <= "~" for character in text):
        raise InvalidError(
            "The token is malformed",
            hint=f"A token has 1 to {MAX_TOKEN} visible ASCII characters, and no space among them",
        )
    return Masked(text)


def token_file(value: object) -> str:
    """a file, or `-`"""
    if not (name := _text(value)):
        raise AuthMissingError("The name of the file with the token is empty")
    return name


def keys_file(value: object) -> str:
    """a file"""
    if not (name := _text(value)):
        raise AuthMissingError("The name of the file with the keys is empty")
    return name


def users_file(value: object) -> str:
    """a file"""
    if not (name := _text(value)):
        raise AuthMissingError("The name of the file with the users is empty")
    return name


def log_file(value: object) -> str:
    """a file, `-` or `off`"""
    return _filled(value)


def texts(value: object) -> tuple[str, ...]:
    """one, or a list; in a variable, separated by commas or spaces"""
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, Iterable) or not (several := tuple(map(_filled, value))):
        raise InvalidError("Empty", hint="Leave it out, or say what it is")
    return several


def clients(value: object) -> tuple[str, ...]:
    """an address or a CIDR, or a list; in a variable, separated by commas or spaces"""
    try:
        return texts(value)
    except InvalidError:
        raise AuthMissingError("There is no client address", hint="Give addresses or CIDRs") from None


def networks(value: object) -> tuple[str, ...]:
    """an address or a CIDR, or a list; in a variable, separated by commas or spaces"""
    several = texts(value)
    Networks(several)
    return several


def rules(value: object) -> tuple[str, ...]:
    """a list of `allow DESTINATION` and `deny DESTINATION`; in a variable, separated by semicolons"""
    if isinstance(value, str):
        value = [line for line in value.replace(";", "\n").splitlines() if line.strip()]
    if not isinstance(value, Iterable):
        raise InvalidError("No rules", hint='Give a list of "allow …" and "deny …"')
    return tuple(map(_filled, value))


def count(value: object) -> int:
    """a number; 0 is no limit"""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidError(f"Not a number: {value!r}"[:80])
    return value


def some(value: object) -> int:
    """a number above 0"""
    if not (number := count(value)):
        raise InvalidError("None at all", hint="Give a number above 0")
    return number


def rate(value: object) -> float:
    """connections a second; 0 is no limit"""
    return seconds(value)


def upstream(value: object) -> Masked:
    """a `socks5://` or `http://` URL"""
    text = value.reveal() if isinstance(value, Masked) else _text(value)
    return Masked(text) if text else NO_SECRET


def name(value: object) -> str:
    """1 to 63 letters, digits and hyphens"""
    text = _text(value)
    return tunnel_name(text) if text else ""


def word(value: object) -> str:
    """a name"""
    return _text(value)


def exit_name(value: object) -> str:
    """1 to 63 letters, digits and hyphens"""
    return tunnel_name(_text(value))


def labels(value: object) -> Mapping[str, str]:
    """a table of labels"""
    if not isinstance(value, Mapping):
        raise InvalidError("Not a table of labels", hint='Write { "ray.io/zone" = "eu-west-1" }')
    if len(value) > MAX_LABELS:
        raise InvalidError(f"{len(value)} labels", hint=f"{MAX_LABELS} is the limit")
    for key, label in value.items():
        prefix, slash, name = str(key).rpartition("/")
        if not _LABEL.fullmatch(name) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
            raise InvalidError(f"Not the name of a label: {str(key)[:80]!r}", hint=_LABEL_HINT)
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise InvalidError(f"Not a label: {key} = {str(label)[:80]!r}", hint=_LABEL_HINT)
    return dict(value)


_LABEL_HINT = "A label has 1 to 63 letters, digits, dots, hyphens and underscores, its name perhaps a prefix/"

"""What the opening of a stream is answered with over SSH, beyond yes or no (RFC 4254 §5.1)."""

from __future__ import annotations

from asyncssh import ProtocolError
from asyncssh.packet import SSHPacket, String

from tunnelkit import errors
from tunnelkit.wire.messages import Opened, decode_channel, encode

__all__ = ["opened_source", "opened_text", "refusal", "refusal_text"]


def refusal_text(code: str, what: str) -> str:
    """What a refused stream says in its open failure."""
    return f"{code} {what}"


def refusal(description: str) -> tuple[str, str]:
    """Code and words of an open failure; what is none of ours is ``service_refused``."""
    code, space, what = description.partition(" ")
    if space and code.isascii() and code.replace("_", "").isalpha() and "_" in code and len(code) < 64:
        return code, what
    return "service_refused", description


def opened_text(source: str) -> bytes:
    """What the confirmation of a stream says that leaves from ``source``."""
    return String(encode(Opened(0, source)))


def opened_source(packet: SSHPacket) -> str:
    """The source of :func:`opened_text`; empty where the confirmation says none."""
    if not packet.get_remaining_payload():
        return ""
    try:
        message = decode_channel(packet.get_string())
    except errors.ProtocolError as error:
        raise ProtocolError(error.what) from None
    return message.source if isinstance(message, Opened) else ""

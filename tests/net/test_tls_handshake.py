"""TLS handshakes, and what verifies a relay."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from tests.support import Certificate, certificate
from tunnelkit.errors import CertificateError, InvalidError, NotARelayError
from tunnelkit.net.tls import (
    TlsSocket,
    check_fingerprint,
    client_context,
    parse_fingerprint,
    start_client,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def sockets() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    return pair


async def test_both_sides_shake_hands_on_the_loop(made) -> None:
    near, far = sockets()
    with near, far:
        server = TlsSocket(far, made.server_context(), server_side=True)
        client, _ = await asyncio.gather(
            start_client(near, client_context(str(made.ca)), host="localhost", timeout=5),
            server.handshake(5),
        )
        assert client.version() == server.version() == "TLSv1.3"
        assert client.fileno() == near.fileno()
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


async def test_a_handshake_has_its_timeout(made) -> None:
    near, far = sockets()
    with far, pytest.raises(TimeoutError):
        await start_client(near, client_context(str(made.ca)), host="localhost", timeout=0.05)
    assert near.fileno() == -1


async def test_a_cancelled_handshake_closes_its_socket(made) -> None:
    near, far = sockets()
    with far:
        context = client_context(str(made.ca))
        task = asyncio.create_task(start_client(near, context, host="localhost", timeout=60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert near.fileno() == -1


async def meet(
    made: Certificate, context: ssl.SSLContext, host: str, fingerprint: str | None = None
) -> tuple[TlsSocket | BaseException, BaseException | None]:
    """What comes of a handshake between a client and a server: on each side, its error if any."""
    near, far = sockets()
    server = TlsSocket(far, made.server_context(), server_side=True)
    with near, far:
        client, accepted = await asyncio.gather(
            start_client(near, context, host=host, fingerprint=fingerprint, timeout=5),
            server.handshake(5),
            return_exceptions=True,
        )
        assert isinstance(client, TlsSocket) or near.fileno() == -1
    return client, accepted


async def refusal(
    made: Certificate, context: ssl.SSLContext, host: str, fingerprint: str | None = None
) -> CertificateError:
    error, _ = await meet(made, context, host, fingerprint)
    assert isinstance(error, CertificateError)
    return error


async def test_an_unknown_authority_is_named(made) -> None:
    error = await refusal(made, client_context(), "localhost")
    assert error.what.startswith("The certificate of localhost is not accepted: unable to get")


async def test_a_certificate_for_another_name_is_named(made) -> None:
    error = await refusal(made, client_context(str(made.ca)), "relay.example")
    assert "not valid for 'relay.example'" in error.what


async def test_a_pinned_certificate_is_accepted_under_any_name(made) -> None:
    pin = f"sha256:{made.fingerprint.upper()}"
    client, _ = await meet(made, client_context(fingerprint=pin), "relay.example", pin)
    assert isinstance(client, TlsSocket)


async def test_another_certificate_than_the_pinned_is_refused(made) -> None:
    pin = "00" * 32
    error = await refusal(made, client_context(fingerprint=pin), "localhost", pin)
    assert f"fingerprint {made.fingerprint}, not {pin}" in error.what


async def test_the_server_is_told_that_its_certificate_was_refused(made) -> None:
    _, accepted = await meet(made, client_context(), "localhost")
    assert isinstance(accepted, ConnectionAbortedError)
    assert "unknown ca" in str(accepted)


async def test_a_server_that_speaks_no_tls_is_no_relay(made) -> None:
    near, far = sockets()
    far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with far, pytest.raises(NotARelayError, match="No TLS session with localhost: wrong version"):
        await start_client(near, client_context(str(made.ca)), host="localhost", timeout=5)


async def test_a_server_that_hangs_up_is_told_apart(made) -> None:
    near, far = sockets()
    far.close()
    with pytest.raises((ConnectionAbortedError, BrokenPipeError)):
        await start_client(near, client_context(str(made.ca)), host="localhost", timeout=5)


async def test_a_client_that_speaks_no_tls_breaks_the_connection(made) -> None:
    near, far = sockets()
    near.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with near, far, pytest.raises(ConnectionAbortedError, match="http request"):
        await TlsSocket(far, made.server_context(), server_side=True).handshake(5)


async def test_tls_before_1_2_is_not_spoken(made) -> None:
    context = made.server_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    willing = client_context(str(made.ca))
    willing.set_ciphers("DEFAULT:@SECLEVEL=0")  # but for the version
    near, far = sockets()
    server = TlsSocket(far, context, server_side=True)
    with far:
        results = await asyncio.gather(
            start_client(near, willing, host="localhost", timeout=5),
            server.handshake(5),
            return_exceptions=True,
        )
    assert isinstance(results[0], NotARelayError)


# --- what verifies a relay ----------------------------------------------------------------------


def test_a_fingerprint_is_read_in_its_usual_forms() -> None:
    digits = "ab" * 32
    for text in [digits, digits.upper(), f"SHA256:{digits}", " " + ":".join(["AB"] * 32) + "\n"]:
        assert parse_fingerprint(text) == digits


@pytest.mark.parametrize("text", ["", "ab", "ab" * 31, "ab" * 33, "xy" * 32, "sha1:" + "ab" * 32])
def test_what_is_no_fingerprint_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(InvalidError, match="64 hexadecimal digits"):
        parse_fingerprint(text)
    if text:
        with pytest.raises(InvalidError):
            client_context(fingerprint=text)


async def test_a_certificate_is_compared_with_its_pin(made) -> None:
    client, _ = await meet(made, client_context(str(made.ca)), "localhost")
    assert isinstance(client, TlsSocket)
    check_fingerprint(client, made.fingerprint)
    with pytest.raises(CertificateError):
        check_fingerprint(client, "00" * 32)


def test_an_authority_file_that_is_none_is_named(tmp_path: Path, made) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    with pytest.raises(InvalidError, match=r"No certificate in '.*empty\.pem'"):
        client_context(str(empty))
    with pytest.raises(InvalidError, match=r"Cannot read '.*missing\.pem': No such file"):
        client_context(str(tmp_path / "missing.pem"))
    with pytest.raises(InvalidError, match="Both an authority and a fingerprint"):
        client_context(str(made.ca), "ab" * 32)

"""Certificate files: read with their keys, checked before use, and made where a relay makes its own."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunnelkit.errors import CertificateFileError

__all__ = ["Certificate", "load", "self_signed", "state"]

MAX_FILE = 1 << 20
"""Bytes read of a file: a chain has a few thousand."""

SELF_SIGNED_DAYS = 3650
"""A pinned certificate is trusted until its pin is taken away; ten years keep that a decision."""

HEADSTART = timedelta(days=1)
"""A new certificate is valid from a day ago, for clients whose clocks are behind."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server shows, and what it says about itself."""

    chain: str
    """The file (PEM): the server's certificate, then those that lead to its authority."""
    key: str
    """The file with its private key."""
    names: frozenset[str]
    """Host names and addresses it is for, in lower case; ``*.`` stands for one label."""
    fingerprint: str
    """SHA-256, 64 hexadecimal digits."""
    expires: datetime


def state(path: str) -> object:
    """What changes when the file does, also where it is a link that is set anew."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        return error.errno
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def load(chain: str, key: str, context: ssl.SSLContext) -> Certificate:
    """Load ``chain`` and its ``key`` into ``context``. Raises CertificateFileError."""
    pem = _read(chain)
    try:
        first = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateFileError(
            f"No certificate in {chain}", hint="It has to be PEM, the server's own certificate first"
        ) from None
    if (expires := first.not_valid_after_utc) <= datetime.now(UTC):
        raise CertificateFileError(f"The certificate in {chain} expired on {expires:%Y-%m-%d}")
    _read(key)

    def protected() -> NoReturn:
        raise CertificateFileError(
            f"The key in {key} is protected by a passphrase", hint="Give a file without one: openssl pkey"
        )

    try:
        context.load_cert_chain(chain, key, password=protected)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateFileError(
                f"The key in {key} is not the one of the certificate in {chain}",
                hint="Give the two that were made together, the server's own certificate first",
            ) from None
        raise CertificateFileError(
            f"No usable key in {key} for {chain}", hint="Both have to be PEM"
        ) from None
    fingerprint = hashlib.sha256(first.public_bytes(serialization.Encoding.DER)).hexdigest()
    return Certificate(chain, key, _names(first), fingerprint, expires)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        raise CertificateFileError(f"{path} cannot be read: {error.strerror}") from None


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return frozenset(name.lower() for name in (*names.get_values_for_type(x509.DNSName), *addresses))


# --- our own ------------------------------------------------------------------------------------


def self_signed(path: str, names: Iterable[str]) -> None:
    """See that ``path`` holds a self-signed certificate for ``names``, with its key.

    One that is there stays if it is for the same names and not about to end, so that a fingerprint
    that agents have pinned outlives a restart. Raises CertificateFileError.
    """
    wanted = frozenset(name.lower() for name in names)
    with contextlib.suppress(CertificateFileError):
        there = load(path, path, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        if there.names == wanted:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(Path(path), pem + _sign(key, sorted(wanted)).public_bytes(serialization.Encoding.PEM))


def _sign(key: ec.EllipticCurvePrivateKey, names: list[str]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tunnelkit relay")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HEADSTART)
        .not_valid_after(now + timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path`` at once, for nobody else to read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CertificateFileError(f"{path} cannot be written: {error.strerror}") from None

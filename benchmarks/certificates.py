"""Certificates for peers that speak TLS."""

from __future__ import annotations

from benchmarks.model import LOOPBACK
from benchmarks.processes import Launcher

TIMEOUT = 10.0  # seconds for a key on two busy cores


def certificate(launch: Launcher) -> tuple[str, str]:
    """The paths of a new self-signed certificate for loopback (P-256, as public authorities issue) and
    of its key."""
    cert, key = str(launch.directory / "certificate.pem"), str(launch.directory / "key.pem")
    launch.run(
        "openssl", "req", "-x509", "-nodes", "-days", "1",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-subj", "/CN=localhost",
        "-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost",
        "-keyout", key,
        "-out", cert,
    ).result(TIMEOUT)  # fmt: skip
    return cert, key

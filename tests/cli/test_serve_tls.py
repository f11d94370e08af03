"""``tunnelkit serve`` with certificates: what it says, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.support import Tunnelkit
from tests.support import Certificate, certificate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def test_a_relay_with_a_certificate(made: Certificate, tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--tls-cert", str(made.chain), "--tls-key", str(made.key)) as relay:
        url = relay.ready[1]
        assert url.startswith("wss://")
        agent = ["http", "9", "--relay", url, "--token", "sesame"]
        with tunnelkit.start(*agent, "--ca", str(made.ca)) as tunnel:
            assert tunnel.ready[1].startswith("https://127.0.0.1:")
        refused = tunnelkit.run(*agent)
        assert refused.returncode == 19
        assert "[certificate]" in refused.stderr


def test_a_public_relay_with_tls_does_not_warn_of_plain_text(made, tunnelkit: Tunnelkit) -> None:
    options = [
        "--listen",
        ":0",
        "--token",
        "sesame",
        "--tls-cert",
        str(made.chain),
        "--tls-key",
        str(made.key),
    ]
    with tunnelkit.start("serve", *options, ready="listening on wss://") as relay:
        assert "warning" not in relay.stderr


def test_a_certificate_of_its_own_keeps_its_fingerprint(tunnelkit: Tunnelkit) -> None:
    seen = set()
    for _ in range(2):
        with tunnelkit.relay("--tls-self-signed") as relay:
            found = re.search(r"--fingerprint ([0-9a-f]{64})$", relay.stderr, re.MULTILINE)
            assert found is not None
            seen.add(found[1])
            options = ["--relay", relay.ready[1], "--token", "sesame", "--fingerprint", found[1]]
            with tunnelkit.start("http", "9", *options) as tunnel:
                assert tunnel.ready[1].startswith("https://")
    assert len(seen) == 1


def test_files_that_do_not_go_together(made, tunnelkit: Tunnelkit, tmp_path: Path) -> None:
    other = certificate(tmp_path)
    refused = tunnelkit.run("serve", "--tls-cert", str(made.chain), "--tls-key", str(other.key))
    assert refused.returncode == 25
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: The key in ")
    assert line.endswith("[certificate_file]")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--tls-cert", "nowhere.pem"], 25, "nowhere.pem cannot be read: No such file or directory"),
        (["--tls-cert", "a", "--tls-cert", "b", "--tls-key", "c"], 2, "2 certificates, and 1 keys"),
        (["--tls-key", "c"], 2, "0 certificates, and 1 keys"),
        (["--tls-cert", "a", "--tls-self-signed"], 2, "to make a certificate, and to take one"),
        (["--hsts", "300"], 2, "--hsts is for a relay with TLS"),
        (["--plain-http"], 2, "--plain-http is for a relay with TLS"),
        (["--tls-cert", ""], 2, "--tls-cert: Empty"),
        (["--hsts", "long", "--tls-self-signed"], 2, "--hsts: Not a number of seconds"),
    ],
)
def test_settings_that_cannot_be(options: list[str], status: int, said: str, tunnelkit: Tunnelkit) -> None:
    refused = tunnelkit.run("serve", "--listen", "127.0.0.1:0", *options)
    assert refused.returncode == status, refused.stderr
    (line,) = refused.stderr.splitlines()
    assert said in line


def test_a_settings_file_names_files_beside_it(made, tunnelkit: Tunnelkit) -> None:
    (tunnelkit.home / "both.pem").write_bytes(made.key.read_bytes() + made.chain.read_bytes())
    path = tunnelkit.home / "tunnelkit.toml"
    path.write_text('[serve]\ntls_cert = "both.pem"\nplain_http = true\nhsts = 60\n')
    with tunnelkit.relay() as relay:
        assert relay.ready[1].startswith("wss://")

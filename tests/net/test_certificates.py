"""Certificate files: what is refused, in which words, and the one that a relay makes for itself."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support import Certificate, certificate
from tunnelkit.errors import CertificateFileError
from tunnelkit.net.certificates import load, self_signed
from tunnelkit.net.tls_server import server_context


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "App.test", "*.app.test", "::1")


def refusal(chain: Path, key: Path) -> str:
    with pytest.raises(CertificateFileError) as caught:
        load(str(chain), str(key), server_context())
    error = caught.value
    assert (error.code, error.exit_status) == ("certificate_file", 25)
    assert "\n" not in str(error)
    assert error.__cause__ is None
    return error.what


def test_a_certificate_says_what_it_is_for(made) -> None:
    loaded = load(str(made.chain), str(made.key), server_context())
    assert loaded.names == {"app.test", "*.app.test", "::1"}
    assert loaded.fingerprint == made.fingerprint
    assert loaded.expires > datetime.now(UTC)


def test_one_file_may_hold_both(made, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(made.key.read_bytes() + made.chain.read_bytes())
    assert load(str(both), str(both), server_context()).fingerprint == made.fingerprint


def test_a_key_of_another_certificate(made, tmp_path: Path) -> None:
    other = certificate(tmp_path)
    what = refusal(made.chain, other.key)
    assert what == f"The key in {other.key} is not the one of the certificate in {made.chain}"


def test_a_file_that_cannot_be_read(made, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.pem"
    assert refusal(nowhere, made.key) == f"{nowhere} cannot be read: No such file or directory"
    assert refusal(made.chain, tmp_path) == f"{tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\0", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----"])
def test_a_file_without_a_certificate(made, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert refusal(path, made.key) == f"No certificate in {path}"
    assert refusal(made.chain, path) == f"No usable key in {path} for {made.chain}"


def test_a_certificate_that_has_expired(made, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(hours=1))
    chain, key = tmp_path / "old.pem", tmp_path / "old.key"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    assert refusal(chain, key).startswith(f"The certificate in {chain} expired on 20")


@pytest.mark.needs("openssl")
def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(made, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", made.key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True)
    assert refusal(made.chain, locked) == f"The key in {locked} is protected by a passphrase"


# --- our own ------------------------------------------------------------------------------------


def test_our_own_certificate_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "own.pem"
    self_signed(str(path), ["localhost", "127.0.0.1", "*.app.test"])
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load(str(path), str(path), server_context())
    assert loaded.names == {"localhost", "127.0.0.1", "*.app.test"}
    self_signed(str(path), ["127.0.0.1", "*.APP.test", "localhost"])
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_our_own_certificate_is_made_anew_for_other_names_or_where_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    self_signed(str(path), ["localhost"])
    first = path.read_bytes()
    self_signed(str(path), ["other.test"])
    assert load(str(path), str(path), server_context()).names == {"other.test"}
    path.write_bytes(first[:100])
    self_signed(str(path), ["other.test"])
    assert load(str(path), str(path), server_context()).names == {"other.test"}


def test_our_own_certificate_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CertificateFileError, match="cannot be written"):
        self_signed(str(tmp_path / "file" / "own.pem"), ["localhost"])

"""The server half of TLS, against the standard library's blocking client."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import Certificate, certificate
from tests.support.chain import tcp_pair
from tests.support.scripted import until
from tunnelkit.errors import CertificateFileError
from tunnelkit.net import tls_server
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import receive, send_all
from tunnelkit.net.tls import TlsSocket
from tunnelkit.net.tls_server import Certificates, Handshakes

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("one"), "one.test", "*.one.test")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("two"), "two.test", "special.one.test")


@pytest.fixture
def certificates(one: Certificate, two: Certificate) -> Certificates:
    return Certificates([(str(one.chain), str(one.key)), (str(two.chain), str(two.key))])


@pytest.fixture
async def pump() -> AsyncIterator[Pump]:
    pump = Pump(asyncio.get_running_loop())
    yield pump
    pump.close()


class Arrivals:
    """Those whose handshake is done."""

    def __init__(self) -> None:
        self.done: list[TlsSocket] = []

    def __call__(self, tls: TlsSocket) -> None:
        self.done.append(tls)

    async def next(self) -> TlsSocket:
        await until(lambda: self.done)
        return self.done.pop()


def anybody(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def visit(
    handshakes: Handshakes,
    context: ssl.SSLContext,
    name: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLSocket, TlsSocket]:
    near, far = tcp_pair()
    far.setblocking(True)
    far.settimeout(10)
    arrivals = Arrivals()
    handshakes.accept(near, ("visitor", 1), b"", arrivals)

    def shake() -> ssl.SSLSocket:
        return context.wrap_socket(far, server_hostname=name, session=session)

    return await asyncio.to_thread(shake), await arrivals.next()


@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("one.test", "one"),
        ("any.one.test", "one"),
        ("SPECIAL.one.test", "two"),
        ("two.test", "two"),
        ("a.b.one.test", "one"),
        ("elsewhere.test", "one"),
        (None, "one"),
    ],
)
async def test_the_certificate_is_the_one_for_the_name(pump, certificates, one, two, name, shown, version):
    handshakes = Handshakes(pump, certificates, patience=10)
    client, tls = await visit(handshakes, anybody(version), name)
    with client:
        der = client.getpeercert(binary_form=True)
        assert der == ssl.PEM_cert_to_DER_cert({"one": one, "two": two}[shown].chain.read_text())
        assert tls.server_name == (name or "").lower()
        assert len(handshakes) == 0
    tls.close()


@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize("name", ["one.test", "two.test"])
async def test_a_session_is_resumed(pump, certificates, name, version) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    context = anybody(version)
    client, tls = await visit(handshakes, context, name)
    await send_all(tls, b"x")
    assert await asyncio.to_thread(client.recv, 1) == b"x"  # TLS 1.3 sends its tickets after the handshake
    session = client.session
    client.close()
    tls.close()
    assert not client.session_reused
    client, tls = await visit(handshakes, context, name, session)
    assert client.session_reused
    assert tls.server_name == name  # the name is asked for again, and known
    client.close()
    tls.close()


async def test_nothing_older_than_tls_1_2(pump, certificates) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    context = anybody()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await visit(handshakes, context, "one.test")
    assert len(handshakes) == 0


async def test_what_came_before_counts_and_a_hello_may_come_byte_by_byte(pump, certificates) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    near, far = tcp_pair()
    arrivals = Arrivals()
    client = TlsSocket(far, anybody(), server_side=False, server_hostname="one.test")
    with pytest.raises(BlockingIOError):
        client.do_handshake()
    hello = near.recv(4096)
    handshakes.accept(near, ("visitor", 1), hello[:1], arrivals)
    for byte in hello[1:]:
        far.send(bytes([byte]))
        await asyncio.sleep(0)
    await client.handshake(10)
    tls = await arrivals.next()
    await send_all(client, b"early")
    client.shutdown(socket.SHUT_WR)
    assert await receive(tls, 65536) == b"early"
    assert await receive(tls, 65536) == b""
    client.close()
    tls.close()


async def test_who_takes_too_long_is_cut(pump, certificates) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    near, far = tcp_pair()
    handshakes.accept(near, ("visitor", 1), b"\x16\x03\x01", Arrivals())
    await asyncio.sleep(0)
    handshakes.tick(pump.loop.time() + 9)
    assert len(handshakes) == 1
    handshakes.tick(pump.loop.time() + 11)
    assert len(handshakes) == 0
    assert await asyncio.get_running_loop().sock_recv(far, 1) == b""
    far.close()


async def test_of_too_many_the_oldest_gives_way(pump, certificates, monkeypatch) -> None:
    monkeypatch.setattr(tls_server, "MAX_HANDSHAKES", 2)
    handshakes = Handshakes(pump, certificates, patience=10)
    pairs = [tcp_pair() for _ in range(3)]
    for near, _ in pairs:
        handshakes.accept(near, ("visitor", 1), b"\x16", Arrivals())
    assert len(handshakes) == 2
    assert await asyncio.get_running_loop().sock_recv(pairs[0][1], 1) == b""
    client, tls = await visit(handshakes, anybody(), "one.test")  # a real one comes through
    client.close()
    tls.close()
    handshakes.close()
    for _, far in pairs:
        far.close()


@pytest.mark.parametrize("garbage", [b"\x16" + bytes(200), b"\x16\x03\x01\xff\xff" + bytes(70000)])
async def test_what_is_no_hello_is_cut(pump, certificates, garbage) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    near, far = tcp_pair()
    handshakes.accept(near, ("visitor", 1), garbage, Arrivals())
    await until(lambda: len(handshakes) == 0)
    far.close()


async def test_each_turn_of_the_loop_takes_one_step(pump, certificates, monkeypatch) -> None:
    steps: list[int] = []
    turn = 0
    whole = TlsSocket.do_handshake
    monkeypatch.setattr(TlsSocket, "do_handshake", lambda self: (steps.append(turn), whole(self))[1])
    handshakes = Handshakes(pump, certificates, patience=10)
    pairs = [tcp_pair() for _ in range(5)]
    for near, _ in pairs:
        handshakes.accept(near, ("visitor", 1), b"\x16", Arrivals())
    for _ in range(20):
        turn += 1
        await asyncio.sleep(0)
    assert len(steps) == len(set(steps)) == 5
    handshakes.close()
    for _, far in pairs:
        far.close()


# --- reload -------------------------------------------------------------------------------------


def put(source: Certificate, chain: Path, key: Path) -> None:
    for path, target in ((source.chain, chain), (source.key, key)):
        new = target.with_suffix(".new")
        shutil.copy(path, new)
        new.replace(target)


async def test_certificates_are_read_again_when_they_change(pump, one, two, tmp_path, caplog) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    put(one, chain, key)
    certificates = Certificates([(str(chain), str(key))])
    assert not certificates.reload()
    handshakes = Handshakes(pump, certificates, patience=10)
    before, tls_before = await visit(handshakes, anybody(), None)
    put(two, chain, key)
    handshakes.tick(0)
    assert certificates.fingerprint == two.fingerprint
    after, tls_after = await visit(handshakes, anybody(), None)
    assert after.getpeercert(binary_form=True) != before.getpeercert(binary_form=True)
    await send_all(tls_before, b"still there")
    assert await asyncio.to_thread(before.recv, 100) == b"still there"
    for sock in (before, tls_before, after, tls_after):
        sock.close()


async def test_what_cannot_be_used_changes_nothing_and_is_told_once(pump, one, two, tmp_path, caplog) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    put(one, chain, key)
    certificates = Certificates([(str(chain), str(key))])
    handshakes = Handshakes(pump, certificates, patience=10)
    shutil.copy(two.chain, chain)  # half of a change: its key is to come
    for _ in range(3):
        handshakes.tick(0)
    assert certificates.fingerprint == one.fingerprint
    assert len([record for record in caplog.records if "those before stay" in record.message]) == 1
    shutil.copy(two.key, key)
    handshakes.tick(0)
    assert certificates.fingerprint == two.fingerprint
    chain.unlink()
    with pytest.raises(CertificateFileError, match="No such file"):
        certificates.reload()
    client, tls = await visit(handshakes, anybody(), None)
    assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(two.chain.read_text())
    client.close()
    tls.close()


async def test_ticket_keys_live_for_a_day(pump, certificates, monkeypatch) -> None:
    handshakes = Handshakes(pump, certificates, patience=10)
    context = anybody(ssl.TLSVersion.TLSv1_2)
    client, tls = await visit(handshakes, context, None)
    session = client.session
    client.close()
    tls.close()
    day = tls_server.time.monotonic() + tls_server.TICKET_LIFE
    monkeypatch.setattr(tls_server.time, "monotonic", lambda: day)
    assert not certificates.reload()
    client, tls = await visit(handshakes, context, None, session)
    assert not client.session_reused
    client.close()
    tls.close()
    now = certificates.context
    assert not certificates.reload()
    assert certificates.context is now

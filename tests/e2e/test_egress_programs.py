"""Real clients through ``tunnelkit egress``, in network namespaces: all leave from the pin.

The side of the proxy has two addresses of each family; the server, in a namespace of its own, tells
what it sees. The system would choose the one that is not pinned.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Child, start_process
from tests.support.programs import SEARCH_PATH, program

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

PIN, SECOND, OTHER, SERVER = "203.0.113.7", "203.0.113.8", "203.0.113.2", "203.0.113.1"
PIN6, OTHER6, SERVER6 = "2001:db8::7", "2001:db8::2", "2001:db8::1"
PORT = 1080
PROXY = f"127.0.0.1:{PORT}"
"""The proxy that most tests share."""
OWN = "127.0.0.1:1081"
"""The one of a test that does something to it."""

pytestmark = [
    pytest.mark.needs("ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are for root"),
]


def ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, timeout=10)


class Network:
    """Two namespaces, the servers in one of them and the proxy and its clients in the other."""

    def __init__(self, directory: Path) -> None:
        self.near, self.far = f"tk-near-{os.getpid()}", f"tk-far-{os.getpid()}"
        self._directory = directory
        self.reporter: Child

    def open(self) -> None:
        for name in (self.near, self.far):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "veth0", "netns", self.near, "type", "veth", "peer", "veth0", "netns", self.far)
        for name, addresses in (
            (self.near, (f"{OTHER}/24", f"{PIN}/24", f"{SECOND}/24", f"{OTHER6}/64", f"{PIN6}/64")),
            (self.far, (f"{SERVER}/24", f"{SERVER6}/64")),
        ):
            for address in addresses:
                extra = ["nodad"] if ":" in address else []
                if address.startswith(PIN6):
                    extra += ["preferred_lft", "0"]  # the system would never choose it by itself
                ip("-n", name, "address", "add", address, "dev", "veth0", *extra)
            ip("-n", name, "link", "set", "veth0", "up")

    def close(self) -> None:
        for name in (self.near, self.far):
            subprocess.run([program("ip"), "netns", "delete", name], check=False, timeout=10)

    def inside(self, name: str, *argv: str | Path) -> list[str | Path]:
        return [program("ip"), "netns", "exec", name, *argv]

    def proxy(self, *options: str, listen: str = OWN) -> Child:
        argv = (sys.executable, "-m", "tunnelkit", "egress", "--listen", listen, "--allow", SERVER)
        argv = (*argv, "--allow", f"[{SERVER6}]", *options)
        return start_process(self.inside(self.near, *argv), ready="listening", cwd=ROOT)

    def run(self, *argv: str | Path, env: dict[str, str] | None = None, timeout: float = 30) -> str:
        """Run a client; its standard output."""
        ran = subprocess.run(
            self.inside(self.near, *argv),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PATH": SEARCH_PATH, **(env or {})},
        )
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout.strip()

    def python(self, what: str, *arguments: str, proxy: str = PROXY) -> str:
        return self.run(sys.executable, HERE / "egress_clients.py", what, proxy, *arguments)

    def sources(self) -> set[str]:
        """Every address that the server has seen."""
        lines = self.reporter.stdout.splitlines()
        return {line.split()[2] for line in lines if line.startswith("source ")}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository to be fetched over plain HTTP; empty where git is not installed."""
    path = tmp_path_factory.mktemp("repository")
    try:
        git = [program("git"), "-C", str(path), "-c", "user.name=a", "-c", "user.email=a@b"]
    except LookupError:
        return path
    for words in ("init -q", "commit -q --allow-empty -m one", "update-server-info"):
        subprocess.run([*git, *words.split()], check=True, timeout=10)
    return path / ".git"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("network"))
    try:
        network.open()
        servers = network.inside(network.far, sys.executable, HERE / "egress_reporter.py", repository)
        with start_process(servers, ready="^ready$") as network.reporter:
            yield network
    finally:
        network.close()


@pytest.fixture(scope="module")
def _proxy(network: Network) -> Iterator[None]:
    with network.proxy("--source-ip", PIN, "--source-ip", PIN6, listen=PROXY):
        yield
        assert not network.sources() & {OTHER, OTHER6}


def expected(server: str) -> str:
    return PIN6 if ":" in server else PIN


def url(server: str, scheme: str = "http") -> str:
    return f"{scheme}://[{server}]/" if ":" in server else f"{scheme}://{server}/"


BOTH = (SERVER, SERVER6)
servers = pytest.mark.parametrize("server", BOTH, ids=["IPv4", "IPv6"])


@servers
@pytest.mark.usefixtures("_proxy")
def test_without_the_proxy_it_would_be_another(network: Network, server: str) -> None:
    """Or the other tests would say nothing. A server of its own, for the first one's list is of pins."""
    script = (
        "import socket, sys\n"
        "s = socket.create_server(('::', 8081), family=socket.AF_INET6, dualstack_ipv6=True)\n"
        "print('ready', flush=True)\n"
        "print(s.accept()[1][0].removeprefix('::ffff:'), flush=True)\n"
    )
    argv = network.inside(network.far, sys.executable, "-c", script)
    with start_process(argv, ready="^ready$") as child:
        network.run(
            sys.executable, "-c", f"import socket; socket.create_connection(({server!r}, 8081)).close()"
        )
        child.wait()
        assert child.stdout.split()[-1] == (OTHER6 if ":" in server else OTHER)


@pytest.mark.needs("curl")
@pytest.mark.parametrize(
    ("way", "server"),
    [
        ("socks4", SERVER),  # which knows no IPv6
        ("socks4a", SERVER),
        *((way, server) for way in ("socks5", "socks5h", "http", "http with CONNECT") for server in BOTH),
    ],
)
@pytest.mark.usefixtures("_proxy")
def test_curl(network: Network, server: str, way: str) -> None:
    scheme, _, tunnel = way.partition(" with ")
    options = ["--proxytunnel"] if tunnel else []
    command = ("curl", "-gksS", "-x", f"{scheme}://{PROXY}", *options)
    for secure in ("http", "https"):
        assert network.run(*command, url(server, secure)) == expected(server)


@servers
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.usefixtures("_proxy")
def test_requests_and_httpx(network: Network, library: str, scheme: str, server: str) -> None:
    # To an HTTP proxy httpx sends http:// URLs of IPv6 addresses without brackets, which nobody can read.
    unreadable = library == "httpx" and scheme == "http" and ":" in server
    for secure in ("https",) if unreadable else ("http", "https"):
        assert network.python(library, scheme, url(server, secure)) == expected(server)


@servers
@pytest.mark.usefixtures("_proxy")
def test_aiohttp(network: Network, server: str) -> None:
    for secure in ("http", "https"):
        assert network.python("aiohttp", url(server, secure)) == expected(server)


@servers
@pytest.mark.usefixtures("_proxy")
def test_datagrams(network: Network, server: str) -> None:
    assert network.python("udp", server) == expected(server)


@pytest.mark.needs("git")
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.usefixtures("_proxy")
def test_git(network: Network, scheme: str) -> None:
    environment = {"ALL_PROXY": f"{scheme}://{PROXY}", "http_proxy": f"{scheme}://{PROXY}"}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null"}
    assert "HEAD" in network.run("git", "ls-remote", f"http://{SERVER}/repository/", env=environment)


@pytest.mark.needs("psql", "proxychains4")
@servers
@pytest.mark.usefixtures("_proxy")
def test_psql_through_proxychains(network: Network, server: str, tmp_path: Path) -> None:
    configuration = tmp_path / "proxychains.conf"
    configuration.write_text(f"strict_chain\n[ProxyList]\nsocks5 127.0.0.1 {PORT}\n")
    connection = f"host={server} user=me dbname=me sslmode=disable gssencmode=disable connect_timeout=10"
    command = ("proxychains4", "-q", "-f", configuration, "psql", "-At", "-c", "select", connection)
    assert network.run(*command) == expected(server)


@pytest.mark.needs("chromium-headless-shell")
@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.usefixtures("_proxy")
def test_chromium(network: Network, scheme: str, tmp_path: Path) -> None:
    for secure in ("http", "https"):
        page = network.run(
            "chromium-headless-shell",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--ignore-certificate-errors",
            f"--user-data-dir={tmp_path}",
            f"--proxy-server={scheme}://{PROXY}",
            "--dump-dom",
            url(SERVER, secure),
            timeout=60,
        )
        assert PIN in page


# --- pins that go and come back -----------------------------------------------------------------


def served(network: Network, count: int) -> None:
    """Wait until the server has seen so many connections more."""
    before, deadline = len(network.reporter.stdout.splitlines()), time.monotonic() + 15
    while len(network.reporter.stdout.splitlines()) < before + count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _curl(network: Network) -> str:
    return network.run("sh", "-c", f"curl -sS -x http://{OWN} {url(SERVER)} 2>&1 || true")


@pytest.fixture
def _address_is_back(network: Network) -> Iterator[None]:
    yield
    subprocess.run(
        [program("ip"), "-n", network.near, "address", "add", f"{PIN}/24", "dev", "veth0"],
        check=False,
        capture_output=True,
        timeout=10,
    )


@pytest.mark.needs("curl")
@pytest.mark.usefixtures("_address_is_back")
def test_under_load_none_leaves_from_another_address_when_the_pin_is_gone(network: Network) -> None:
    with network.proxy("--source-ip", PIN, "--access-log", "off", "--idle-timeout", "60"):
        before = len(network.reporter.stdout)
        clients = network.inside(network.near, sys.executable, HERE / "egress_clients.py", "load", OWN)
        with start_process([*clients, SERVER, "6"], ready="^started$") as load:
            served(network, 50)
            ip("-n", network.near, "address", "delete", f"{PIN}/24", "dev", "veth0")
            assert "[proxy_unavailable]" in _curl(network)
            assert network.python("udp", SERVER, proxy=OWN) == "nothing"
            ip("-n", network.near, "address", "add", f"{PIN}/24", "dev", "veth0")
            served(network, 50)
            load.wait()
            counts = json.loads(load.stdout.splitlines()[-1])
        assert counts.pop(PIN) >= 80
        assert counts.pop("refused 1") > 0
        # What was under way when the address went may have been cut off, but never moved.
        assert not [answer for answer in counts if answer.startswith(("203.", "2001:"))]
        seen = {line.split()[2] for line in network.reporter.stdout[before:].splitlines() if "source" in line}
        assert seen == {PIN}


@pytest.mark.needs("curl")
@pytest.mark.usefixtures("_address_is_back")
def test_of_two_pins_the_one_that_is_there_is_used(network: Network) -> None:
    with network.proxy("--source-ip", PIN, "--source-ip", SECOND):
        before = len(network.reporter.stdout)
        assert _curl(network) in (PIN, SECOND)
        ip("-n", network.near, "address", "delete", f"{PIN}/24", "dev", "veth0")
        for _ in range(3):
            assert _curl(network) == SECOND
        seen = {line.split()[2] for line in network.reporter.stdout[before:].splitlines() if "source" in line}
        assert seen <= {PIN, SECOND}


@pytest.mark.needs("curl")
def test_a_family_without_a_pin_is_refused(network: Network) -> None:
    with network.proxy("--source-ip", PIN):
        answer = network.run("sh", "-c", f"curl -gsS -x http://{OWN} {url(SERVER6)} 2>&1 || true")
        assert "[family_not_pinned]" in answer
        socks = network.run("sh", "-c", f"curl -gsS -x socks5h://{OWN} {url(SERVER6)} 2>&1 || true")
        assert "(8)" in socks  # address type not supported (RFC 1928 §6)


def test_a_pin_of_another_machine_is_refused_at_the_start(network: Network) -> None:
    argv = (sys.executable, "-m", "tunnelkit", "egress", "--source-ip", SERVER)
    ran = subprocess.run(
        network.inside(network.near, *argv), check=False, capture_output=True, text=True, timeout=20
    )
    assert ran.returncode == 24
    assert "[proxy_unavailable]" in ran.stderr


@pytest.mark.needs("curl")
def test_through_an_upstream_proxy_from_the_pin(network: Network) -> None:
    """The first proxy plays the gateway: it hears from the pin of the second."""
    gateway = (sys.executable, "-m", "tunnelkit", "egress", "--listen", f"{SERVER}:3128", "--open")
    gateway = (*gateway, "--allow", SERVER)
    with start_process(network.inside(network.far, *gateway), ready="listening", cwd=ROOT) as far:
        for scheme in ("http", "socks5"):
            with network.proxy("--source-ip", PIN, "--upstream", f"{scheme}://{SERVER}:3128"):
                answer = network.run("curl", "-sS", "-x", f"socks5h://{OWN}", url(SERVER))
                assert answer == SERVER  # the gateway is on the server's machine
        assert far.stderr.count(f"access client={PIN}:") == 2
        assert OTHER not in far.stderr

"""Leaving by a relay and by an exit, as a user runs them: three commands, and curl."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.support import PATIENCE, Tunnelkit, host_and_port
from tests.support import Child, program
from tests.support.addresses import free_port

LOOPBACK = ["--allow", "127.0.0.0/8"]
LEND = ["--egress-source-ip", "127.0.0.2", "--egress-allow", "127.0.0.0/8"]


class Mirror(BaseHTTPRequestHandler):
    """Says from which address it is seen."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        seen = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(seen)))
        self.end_headers()
        self.wfile.write(seen)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    """The URL of a server that says who it is seen by."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def proxy(tunnelkit: Tunnelkit, relay: str, *arguments: str, token: str = "sesame") -> Child:
    """A proxy that leaves by ``relay``; ``ready[1]`` is its address."""
    options = ["--listen", "127.0.0.1:0", "--via", relay, "--token", token, *LOOPBACK, *arguments]
    return tunnelkit.start("egress", *options, ready=r"listening for SOCKS and HTTP on (\S+)")


def exit_(tunnelkit: Tunnelkit, relay: str, *arguments: str) -> Child:
    options = ["--name", "office", "--zone", "eu", "--source-ip", "127.0.0.3", *LOOPBACK]
    return tunnelkit.start(
        "exit", *options, "--relay", relay, "--token", "sesame", *arguments, ready=r"^exit:office$"
    )


def curl(url: str, scheme: str, address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("curl"), "-sS", "-m", "15", "-i", "-x", f"{scheme}://{address}", url],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.needs("curl")
def test_curl_is_seen_from_the_address_of_the_relay(tunnelkit: Tunnelkit, mirror: str) -> None:
    with tunnelkit.relay(*LEND) as relay, proxy(tunnelkit, relay.ready[1]) as egress:
        assert "egress: proxies leave from 127.0.0.2" in relay.stderr
        for scheme in ("http", "socks4", "socks4a", "socks5", "socks5h"):
            done = curl(mirror, scheme, egress.ready[1])
            assert done.stdout.endswith("127.0.0.2"), (scheme, done)
        eventually(lambda: egress.stderr.count("from=127.0.0.2") == 5)
        assert "warning" not in egress.stderr


@pytest.mark.needs("curl")
def test_curl_is_seen_from_an_exit_also_after_it_was_killed_and_came_back(
    tunnelkit: Tunnelkit, mirror: str
) -> None:
    with tunnelkit.relay() as relay, proxy(tunnelkit, relay.ready[1], "--exit", "zone:eu") as egress:
        egress.expect(r"^warning: There is no exit 'zone:eu'.*\[no_exit\]")
        assert "[no_exit]" in curl(mirror, "http", egress.ready[1]).stdout
        with exit_(tunnelkit, relay.ready[1]) as leaving:
            assert curl(mirror, "socks5h", egress.ready[1]).stdout.endswith("127.0.0.3")
            leaving.kill()
            assert curl(mirror, "socks5", egress.ready[1]).returncode == 97  # the proxy said no
        with exit_(tunnelkit, relay.ready[1]):
            assert curl(mirror, "socks5h", egress.ready[1]).stdout.endswith("127.0.0.3")


@pytest.mark.needs("curl")
def test_a_relay_that_goes_and_comes_back_is_told_and_used(tunnelkit: Tunnelkit, mirror: str) -> None:
    listen = ["--listen", f"127.0.0.1:{free_port()}", "--token", "sesame", *LEND]
    ready = r"listening on (ws://\S+)"
    with tunnelkit.start("serve", *listen, ready=ready) as relay:
        with proxy(tunnelkit, relay.ready[1]) as egress:
            relay.kill()
            egress.expect("^disconnected: ")
            with tunnelkit.start("serve", *listen, ready=ready):
                egress.expect("^connected again: ")
                assert curl(mirror, "socks5h", egress.ready[1]).stdout.endswith("127.0.0.2")


def test_half_close_through_the_whole_chain(tunnelkit: Tunnelkit) -> None:
    up, down = os.urandom(2_000_000), os.urandom(3_000_000)
    got = bytearray()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while piece := connection.recv(1 << 16):
                got.extend(piece)
            connection.sendall(down)

    with (
        tunnelkit.relay() as relay,
        exit_(tunnelkit, relay.ready[1]),
        proxy(tunnelkit, relay.ready[1], "--exit", "office") as egress,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with socket.create_connection(host_and_port(f"//://{egress.ready[1]}"), PATIENCE) as client:
            port = listener.getsockname()[1]
            client.sendall(
                f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() + up
            )
            client.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while piece := client.recv(1 << 16):
                answer += piece
        thread.join(PATIENCE)
        assert got == up
        assert answer.partition(b"\r\n\r\n")[2] == down


@contextmanager
def rights(home: Path, line: str) -> Iterator[list[str]]:
    """Options of a relay whose one token has these rights."""
    file = home / "tokens"
    file.write_text(f"# who may what\nsesame {line}\n", encoding="utf-8")
    yield ["--listen", "127.0.0.1:0", "--token-file", str(file)]


@pytest.mark.needs("curl")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("by=", "exit_not_allowed"),
        ("by=@own,office-*", "exit_not_allowed"),
        ("allow=*.example.com deny=*", "destination_denied"),
        ("allow=127.0.0.1:1", "destination_denied"),
        ("allow=127.0.0.0/8", ""),
        ("by=@relay", "destination"),
    ],
)
def test_a_token_leaves_only_as_its_rights_say(
    line: str, code: str, tunnelkit: Tunnelkit, mirror: str
) -> None:
    allowed = [] if code == "destination" else LEND[2:]
    with (
        rights(tunnelkit.home, line) as options,
        tunnelkit.start("serve", *options, *LEND[:2], *allowed, ready=r"listening on (ws://\S+)") as relay,
        proxy(tunnelkit, relay.ready[1]) as egress,
    ):
        done = curl(mirror, "http", egress.ready[1])
        if code:
            assert f"[{code}" in done.stdout
        else:
            assert done.stdout.endswith("127.0.0.2")


def test_a_right_that_is_none_is_refused_without_the_token(tunnelkit: Tunnelkit) -> None:
    for line in ("proxies=all", "by", "allow=", "second-token"):
        with rights(tunnelkit.home, line) as options:
            done = tunnelkit.run("serve", *options)
        assert done.returncode == 2
        assert "no right of it" in done.stderr
        assert "sesame" not in done.stderr
        assert "second" not in done.stderr


def test_a_wrong_token_ends_either_command(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay() as relay:
        options = ["--listen", "127.0.0.1:0", "--via", relay.ready[1], "--token", "wrong"]
        assert tunnelkit.run("egress", *options).returncode == 4
        done = tunnelkit.run("exit", "--relay", relay.ready[1], "--token", "wrong")
        assert done.returncode == 4
        assert done.stderr.endswith("[auth_failed]\n")


def test_an_address_that_is_not_here_is_neither_lent_nor_left_from(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run(
        "serve", "--listen", "127.0.0.1:0", "--token", "t", "--egress-source-ip", "192.0.2.1"
    )
    assert done.returncode == 24
    assert "[proxy_unavailable]" in done.stderr
    done = tunnelkit.run("exit", "--source-ip", "192.0.2.1", "--relay", "ws://127.0.0.1:1")
    assert done.returncode == 24
    assert "192.0.2.1" in done.stderr


def test_a_relay_that_is_open_to_everybody_does_not_lend_its_address(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("serve", "--listen", ":0", "--open", "--egress-source-ip", "127.0.0.2")
    assert done.returncode == 17
    assert "leave from its addresses" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["exit"], 2, "An exit needs a relay"),
        (["exit", "--name", "-bad", "--relay", "ws://h"], 9, "--name"),
        (["exit", "--zone", "a b", "--relay", "ws://h"], 9, "--zone"),
        (["exit", "--allow", "[::", "--relay", "ws://h"], 2, "Not a rule"),
        (["exit", "--allow"], 2, "requires an argument"),
        (["serve", "--egress-allow", "*:x", "--egress-source-ip", "127.0.0.2"], 2, "Not a rule"),
        (["serve", "--egress-allow", "*"], 2, "no address to leave from"),
        (["egress", "--exit", "office"], 2, "--exit is for a relay"),
        (["egress", "--via", "ws://h", "--exit", "a b"], 9, "a b"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], status: int, says: str, tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run(*arguments)
    assert says in done.stderr
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_the_rules_of_an_exit_keep_their_order_and_settings_come_from_the_file(
    tunnelkit: Tunnelkit, mirror: str
) -> None:
    port = mirror.rpartition(":")[2].strip("/")
    (tunnelkit.home / "tunnelkit.toml").write_text(
        '[exit]\nname = "office"\nsource_ip = "127.0.0.3"\n'
        f'rules = ["deny 127.0.0.1:{port}", "allow 127.0.0.0/8"]\n',
        encoding="utf-8",
    )
    with tunnelkit.relay() as relay:
        common = ["exit", "--relay", relay.ready[1], "--token", "sesame"]
        with (
            tunnelkit.start(*common, ready=r"^exit:office$"),
            proxy(tunnelkit, relay.ready[1], "--exit", "office") as egress,
        ):
            assert "[destination_denied]" in curl(mirror, "http", egress.ready[1]).stdout
        rules = ["--allow", f"127.0.0.1:{port}", "--deny=127.0.0.0/8"]
        with (
            tunnelkit.start(*common, *rules, ready=r"^exit:office$"),
            proxy(tunnelkit, relay.ready[1], "--exit", "office") as egress,
        ):
            assert curl(mirror, "http", egress.ready[1]).stdout.endswith("127.0.0.3")


def test_what_a_relay_lends_is_not_set_by_the_variables_of_a_proxy(tunnelkit: Tunnelkit) -> None:
    env = {"TUNNELKIT_EGRESS_SOURCE_IP": "127.0.0.2", "TUNNELKIT_TOKEN": "sesame"}
    listen = ["--listen", f"127.0.0.1:{free_port()}"]
    with tunnelkit.start("serve", *listen, ready=r"listening on (\S+)", env=env) as relay:
        assert "egress" not in relay.stderr

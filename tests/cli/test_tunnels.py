from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from typing import Any

import pytest

from tests.cli.support import COMMAND, PATIENCE, URL, Tunnelkit, host_and_port, visit, visit_in_vain
from tests.support import Child, free_port, start_process
from tunnelkit.cli.tunnels import lan_address
from tunnelkit.errors import InvalidError

SECRET = "not-for-your-eyes"


def events(child: Child) -> list[dict[str, Any]]:
    return [json.loads(line) for line in child.stdout.splitlines()]


# --- what is written where ------------------------------------------------------------------------


def test_standard_output_is_the_url_alone(tunnelkit: Tunnelkit, web_service: int) -> None:
    with tunnelkit.start("http", str(web_service)) as child:
        with urllib.request.urlopen(child.ready[1]) as answer:
            assert answer.read() == b"hello"
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
        assert child.stdout == f"{child.ready[1]}\n"


def test_without_a_relay_it_says_how_far_the_url_reaches(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.start("tcp", "9") as child:
        line = child.expect("^note: Reachable on this machine only.*$")[0]
        assert "--lan" in line
        assert "--relay" in line


def test_with_a_relay_the_url_is_below_its_domain(tunnelkit: Tunnelkit, web_service: int) -> None:
    with tunnelkit.relay("--domain", "tunnels.test") as relay:
        options = ["--relay", relay.ready[1], "--token", "sesame", "--name", "app"]
        with tunnelkit.start("http", str(web_service), *options) as child:
            host, port = host_and_port(relay.ready[1])
            assert child.ready[1] == f"http://app.tunnels.test:{port}"
            assert "Reachable on" not in child.stderr
            request = urllib.request.Request(f"http://{host}:{port}/", headers={"Host": "app.tunnels.test"})
            with urllib.request.urlopen(request) as answer:
                assert answer.read() == b"hello"


def test_with_lan_the_url_is_for_the_network(tunnelkit: Tunnelkit, web_service: int) -> None:
    try:
        address = lan_address()
    except InvalidError:
        pytest.skip("this machine is in no network")
    with tunnelkit.start("http", str(web_service), "--lan") as child:
        assert host_and_port(child.ready[1])[0] == address
        child.expect("^note: Reachable from this network only")
        with urllib.request.urlopen(child.ready[1]) as answer:
            assert answer.read() == b"hello"


def test_json_is_one_object_a_line(tunnelkit: Tunnelkit, web_service: int) -> None:
    with tunnelkit.start("http", str(web_service), "--json", ready='"notice"') as child:
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
        connected, up, *rest = events(child)
        assert connected["event"] == "connected"
        assert up == {
            "event": "tunnel_up",
            "url": f"http://127.0.0.1:{up['port']}",
            "kind": "http",
            "name": up["name"],
            "host": "127.0.0.1",
            "port": up["port"],
            "target": f"localhost:{web_service}",
        }
        assert [event["event"] for event in rest] == ["notice"]
        assert child.stderr == ""


def test_json_tells_the_error_too(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("tcp", "80", "--json", "--relay", f"ws://127.0.0.1:{free_port()}")
    error = json.loads(done.stdout)
    assert (error["event"], error["code"], error["exit_status"]) == ("error", "relay_unreachable", 3)
    assert done.returncode == 3


def test_a_reader_that_goes_leaves_the_tunnel_up(tunnelkit: Tunnelkit) -> None:
    command = [*COMMAND, "tcp", str(free_port()), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tunnelkit.home, text=True, **pipes) as process:
        lines = iter(process.stdout)
        url = next(event["url"] for event in map(json.loads, lines) if event["event"] == "tunnel_up")
        process.stdout.close()
        for _ in range(2):  # each is an event that nobody reads
            visit_in_vain(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("token", [SECRET, f"{SECRET}-of-another"])
def test_a_token_is_never_shown(token: str, tunnelkit: Tunnelkit) -> None:
    loud = {"TUNNELKIT_LOG": "debug"}
    tokens = tunnelkit.home / "tokens"
    tokens.write_text(SECRET)
    serve = ["serve", "--listen", "127.0.0.1:0", "--token-file", str(tokens)]
    with tunnelkit.start(*serve, ready=r"listening on (ws://\S+)", env=loud) as relay:
        options = ["--relay", relay.ready[1], "--token", token]
        with tunnelkit.start("http", "9", *options, ready=r"^http://|\[auth_failed\]", env=loud) as child:
            relay.stop()
            child.stop()
            assert SECRET not in child.stdout + child.stderr + relay.stdout + relay.stderr


# --- the service ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_service_that_is_not_there_is_a_warning(kind: str, tunnelkit: Tunnelkit) -> None:
    port = free_port()
    with tunnelkit.start(kind, str(port)) as child:
        line = child.expect("^warning: .*$")[0]
        assert line.startswith(
            f"warning: The tunnel is up, but nothing accepts connections at localhost:{port}."
        )
        assert line.endswith("[service_refused]")


def test_looking_for_a_tcp_service_takes_none_of_its_connections(tunnelkit: Tunnelkit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        with tunnelkit.start("tcp", str(service.getsockname()[1]), "--check") as child:
            with visit(child.ready[1]) as visitor:
                first, _ = service.accept()
                visitor.sendall(b"me")
                assert first.recv(10) == b"me"
                first.close()


def test_repeated_service_errors_are_told_once(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.start("tcp", str(free_port())) as child:
        child.expect("^warning: ")
        for _ in range(4):
            visit_in_vain(child.ready[1])
        child.expect(r"^service error: Nothing accepts connections at localhost:\d+\. Is anything")
        child.stop()
        assert child.stderr.count("service error") == 1


# --- the relay goes and comes back ----------------------------------------------------------------


def test_reconnects_are_told(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--tcp-ports", "20995-20999") as relay:
        url = relay.ready[1]
        with tunnelkit.start("tcp", "9", "--relay", url, "--token", "sesame") as child:
            relay.kill()
            child.expect("^disconnected: ")
            child.expect(r"^no relay: .*\[relay_unreachable\]$")
            again = ["serve", "--listen", url.removeprefix("ws://"), "--token", "sesame"]
            with tunnelkit.start(*again, "--tcp-ports", "20995-20999", ready="listening on"):
                child.expect("^connected again: ")
            assert child.stdout == f"{child.ready[1]}\n"


def test_a_session_that_is_replaced_ends_with_its_own_status(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--domain", "tunnels.test") as relay:
        options = ["http", "9", "--name", "app", "--relay", relay.ready[1], "--token", "sesame"]
        with tunnelkit.start(*options) as older, tunnelkit.start(*options) as newer:
            assert older.wait() == 13
            assert older.stderr.endswith("[replaced]\n")
            assert newer.running


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_tunnel_at_once(number: signal.Signals, tunnelkit: Tunnelkit) -> None:
    with tunnelkit.start("tcp", "9", "--grace", "1000") as child:
        child.signal(number)
        assert child.wait() == 0
        assert "Traceback" not in child.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_tunnel_is_up_is_an_interruption(
    number: signal.Signals, status: int, tunnelkit: Tunnelkit
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = ["--relay", f"ws://127.0.0.1:{mute.getsockname()[1]}"]
        with tunnelkit.start("tcp", "9", *options, ready=None) as child:
            connection, _ = mute.accept()
            with connection:
                child.signal(number)
                assert child.wait() == status
                assert (child.stdout, child.stderr) == ("", "")


def test_a_background_job_is_not_interrupted_with_the_one_in_front(tunnelkit: Tunnelkit) -> None:
    shell = ["sh", "-c", f"trap '' INT; exec {shlex.join(COMMAND)} tcp 9"]
    with start_process(shell, ready=URL, cwd=tunnelkit.home) as child:
        child.signal(signal.SIGINT)
        visit_in_vain(child.ready[1])  # nothing is at port 9, which the agent is still there to find out
        assert child.running
        child.signal(signal.SIGTERM)
        assert child.wait() == 0


def test_the_first_signal_lets_connections_finish(tunnelkit: Tunnelkit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        with tunnelkit.start("tcp", str(service.getsockname()[1])) as child, visit(child.ready[1]) as visitor:
            connection, _ = service.accept()
            child.signal(signal.SIGTERM)
            child.expect("^note: Waiting up to 30 s for 1 connection to finish")
            wait_until_refused(child.ready[1])
            visitor.sendall(b"last words")
            assert connection.recv(100) == b"last words"
            connection.sendall(b"heard")
            connection.close()
            assert visitor.recv(100) == b"heard"
            assert visitor.recv(100) == b""
            visitor.close()
            assert child.wait() == 0


def wait_until_refused(url: str) -> None:
    """Until the public address takes no visitors any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            visit(url).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the queue when the listener was closed
            continue
    raise AssertionError("visitors still get in")


def test_the_grace_period_ends(tunnelkit: Tunnelkit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        options = [str(service.getsockname()[1]), "--grace", "0.2"]
        with tunnelkit.start("tcp", *options) as child, visit(child.ready[1]):
            connection, _ = service.accept()
            with connection:
                child.signal(signal.SIGTERM)
                assert child.wait() == 0


def test_the_second_signal_ends_connections(tunnelkit: Tunnelkit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        options = [str(service.getsockname()[1]), "--grace", "1000"]
        with tunnelkit.start("tcp", *options) as child, visit(child.ready[1]) as visitor:
            connection, _ = service.accept()
            with connection:
                child.signal(signal.SIGTERM)
                child.expect("^note: Waiting")
                child.signal(signal.SIGTERM)
                assert child.wait() == 0
                with pytest.raises(ConnectionResetError):
                    visitor.recv(1)
                assert "Traceback" not in child.stderr

from __future__ import annotations

import signal
import socket

import pytest

from tests.cli.support import PATIENCE, Tunnelkit, host_and_port
from tests.support import free_port_range


def test_it_says_where_it_listens_and_what_it_offers(tunnelkit: Tunnelkit) -> None:
    listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]
    with tunnelkit.relay(*listen, "--domain", "tunnels.test", "--tcp-ports", "20980-20989") as relay:
        relay.signal(signal.SIGTERM)
        assert relay.wait() == 0
        offer, ssh, *addresses = relay.stderr.splitlines()
        assert offer == "HTTP tunnels: names below tunnels.test; TCP tunnels: ports 20980-20989"
        assert ssh.startswith("SSH at the addresses below, host key SHA256:")
        assert [line.rpartition(":")[0] for line in addresses] == ["listening on ws://127.0.0.1"] * 3
        assert relay.stdout == ""


def test_it_warns_that_everybody_may_come_in(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.start("serve", "--listen", "127.0.0.1:0", ready="listening on") as relay:
        relay.expect("^warning: every program on this machine may open tunnels, for there is no token")
    with tunnelkit.start("serve", "--listen", ":0", "--open", ready="listening on") as relay:
        relay.expect("^warning: everybody who reaches .* may open tunnels")
        relay.expect("^warning: tokens and traffic are not encrypted on the way to ")


def test_settings_come_from_the_environment_and_a_token_from_standard_input(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run(
        "serve", "--token-file", "-", env={"TUNNELKIT_LISTEN": "198.51.100.1:0"}, stdin="sesame\n"
    )
    assert done.returncode == 16
    assert "198.51.100.1:0" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_relay_at_once(number: signal.Signals, tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--grace", "1000") as relay:
        relay.signal(number)
        assert relay.wait() == 0
        assert "Traceback" not in relay.stderr


def test_the_first_signal_waits_for_connections_and_the_second_does_not(tunnelkit: Tunnelkit) -> None:
    ports = free_port_range(1)
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        tunnelkit.relay("--tcp-ports", str(ports[0]), "--grace", "1000") as relay,
        tunnelkit.start(
            "tcp", str(service.getsockname()[1]), "--relay", relay.ready[1], "--token", "sesame"
        ) as agent,
        socket.create_connection(host_and_port(agent.ready[1])) as visitor,
    ):
        visitor.settimeout(PATIENCE)
        connection, _ = service.accept()
        with connection:
            relay.signal(signal.SIGTERM)
            agent.expect(r"^note: The relay shuts down \[relay_closing\]")
            visitor.sendall(b"still here")
            assert connection.recv(100) == b"still here"
            relay.signal(signal.SIGTERM)
            assert relay.wait() == 0
            with pytest.raises(ConnectionResetError):
                visitor.recv(1)

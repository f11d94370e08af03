"""What a person can do with OpenSSH and nothing else."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.http_support import OK, Service, Wire, answering
from tests.e2e.ssh_support import PORTS, SshSite, ssh_relay
from tests.e2e.tcp_support import QUICK, echo, hold
from tests.support.processes import run, start_process
from tests.support.programs import program
from tests.support.scripted import until
from tests.support.sshd import make_key

pytestmark = pytest.mark.needs("ssh")


async def url_of(client, pattern: str = r"^(http|tcp)://\S+") -> str:
    return (await client.expect_async(pattern))[0].strip()


async def test_a_name_a_chosen_name_a_port_and_a_chosen_port_at_once(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web, Service(echo) as tcp:
        forwards = [f"app:80:localhost:{web.port}", f"80:localhost:{web.port}"]
        forwards += [f"{PORTS[3]}:localhost:{tcp.port}", f"0:localhost:{tcp.port}"]
        async with site.ssh(*(word for forward in forwards for word in ("-R", forward))) as client:
            await client.expect_async(r"(^(http|tcp)://\S+\n(.*\n)*){4}")
            urls = re.findall(r"^(?:http|tcp)://\S+", client.stdout, re.MULTILINE)
            assert urls[0] == f"http://app.t.test:{site.port}"
            assert urls[2] == f"tcp://t.test:{PORTS[3]}"
            chosen = re.fullmatch(r"http://([a-z2-9]{10})\.t\.test:\d+", urls[1])
            assert chosen is not None
            assert (await site.ask("app")).status == 200
            assert (await site.ask(chosen[1])).status == 200
            allocated = int(urls[3].rpartition(":")[2])
            assert f"Allocated port {allocated} for remote forward" in client.stderr
            for port in (PORTS[3], allocated):
                visitor = await site.visit(port)
                await visitor.send(b"hello")
                assert await visitor.exactly(5) == b"hello"
            assert client.stdout.split() == urls  # for a script: addresses, and nothing else
            client.signal(signal.SIGINT)
            await client.wait_async()
        await until(lambda: not site.relay._sessions)
        assert (await site.ask("app")).status == 503


async def test_upper_case_and_the_whole_host_name_mean_the_same_name(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        async with site.ssh("-R", f"App.T.test:80:localhost:{web.port}") as client:
            assert await url_of(client) == f"http://app.t.test:{site.port}"
            assert (await site.ask("app")).status == 200


async def test_without_a_session_the_banner_says_where_the_tunnel_is(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        async with site.ssh("-N", "-R", f"80:localhost:{web.port}") as client:
            line = await client.expect_async(r"-R 80:HOST:PORT is http://([a-z2-9]{10})\.t\.test")
            await client.expect_async("What cannot be had is refused")
            await until(lambda: any(session.tunnels for session in site.relay._sessions))
            assert (await site.ask(line[1])).status == 200
            assert client.stdout == ""
        # The same key gets the same name again, and another one while that is in use.
        async with (
            site.ssh("-R", f"80:localhost:{web.port}") as first,
            site.ssh("-R", f"80:localhost:{web.port}", ready="^http://") as second,
        ):
            names = {await url_of(first), await url_of(second)}
            assert len(names) == 2
            assert any(line[1] in name for name in names)


@pytest.mark.parametrize("session", [True, False])
async def test_a_name_that_cannot_be_had_refuses_the_forward(session: bool, tmp_path: Path) -> None:
    other = await make_key(tmp_path / "other")
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        with (tmp_path / "authorized").open("a") as keys:
            keys.write(other.with_suffix(".pub").read_text())
        forward = ["-R", f"app:80:localhost:{web.port}"]
        async with site.ssh(*forward, ready="^http://app"):
            arguments = forward if session else ["-N", "-o", "ExitOnForwardFailure=yes", *forward]
            done = await run(*site.argv(*arguments, key=other))
            assert b"remote port forwarding failed for listen port 80" in done.stderr
            if session:
                assert b"error: The name 'app' is taken" in done.stderr
                assert b"[name_taken]" in done.stderr
            assert done.returncode == (6 if session else 255)
            assert (await site.ask("app")).status == 200


async def test_a_failed_forward_leaves_the_others(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        bad = ["-R", "19:localhost:1", "-R", "app:19:localhost:1", "-R", "www:80:localhost:1"]
        async with site.ssh(*bad, "-R", f"app:80:localhost:{web.port}", ready="^http://app") as client:
            for code in ("port_not_allowed", "invalid", "invalid_name"):
                await client.expect_async(rf"^error: .* \[{code}\]")
            assert (await site.ask("app")).status == 200
        done = await run(*site.argv(*bad))
        assert done.returncode == 9  # the last one's


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", ["yes", "no"])
async def test_words_name_the_tunnel(strict: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        arguments = ["-o", f"ExitOnForwardFailure={strict}", "-R", f"80:localhost:{web.port}"]
        async with site.ssh(*arguments, "--", "name=worded", "host-header=inside:1") as client:
            assert await url_of(client) == f"http://worded.t.test:{site.port}"
            assert (await site.ask("worded")).status == 200
            assert b"Host: inside:1\r\n" in web.seen


async def test_proxy_protocol_for_tcp_and_for_http(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(hold) as tcp, Service(hold) as web:
        arguments = ["-R", f"80:localhost:{web.port}", "-R", f"{PORTS[1]}:localhost:{tcp.port}"]
        async with site.ssh(*arguments, "--", "name=app", "proxy-protocol=1", ready="^tcp://"):
            visitor = await site.visit(PORTS[1])
            await visitor.send(b"hello")
            seen = await (await tcp.connection()).until(b"hello")
            assert seen == f"PROXY TCP4 127.0.0.1 127.0.0.1 {visitor.port} {PORTS[1]}\r\nhello".encode()
            asking = asyncio.create_task(site.ask("app"))
            service = await web.connection()
            seen = await service.until(b"\r\n\r\n")
            assert seen.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
            assert f" {site.port}\r\nGET / HTTP/1.1\r\n".encode() in seen
            await service.send(OK)
            assert (await asking).status == 200
            assert await service.ended()  # the next visitor is somebody else


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nme=app", "There is no option 'nme'"),
        ("name", "Not an option: 'name'"),
        ("name=app name=other", "'name' is given twice"),
        ("name=-bad-", "Not a tunnel name: '-bad-'"),
        ("proxy-protocol=3", "Not a version of the PROXY protocol: '3'"),
        ("host-header=rewrite", "The relay does not see where"),
        ("bash -i", "Not an option: 'bash'"),
        ("'name=app", "The options cannot be read"),
    ],
)
async def test_unknown_words_are_refused_by_name(words: str, says: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        done = await run(*site.argv("-R", "80:localhost:1", "--", words))
        assert says in done.stderr.decode()
        assert b"remote port forwarding failed" in done.stderr
        assert done.returncode in (2, 9)
        assert b"http://" not in done.stdout


async def test_names_with_control_characters_do_no_harm(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        for name in ("a\x1b]0;x\x07b", "a\nb", "a b", "ä", "x" * 1000, "a\x7f"):
            done = await run(*site.argv("-R", f"{name}:80:localhost:1"))
            said = done.stderr.decode()
            assert "[invalid_name]" in said
            assert "\x1b" not in said.replace(name, "")
            done = await run(*site.argv("-R", "80:localhost:1", "--", f"name='{name}'"))
            assert "[invalid_name]" in done.stderr.decode()


async def test_a_session_without_a_forward_says_how_it_is_done(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        done = await run(*site.argv())
        assert b"error: Nothing is forwarded: ssh -R " in done.stderr
        assert done.returncode == 2


# --- terminals ------------------------------------------------------------------------------------


async def test_a_terminal_shows_connections_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        import shlex

        command = shlex.join(site.argv("-tt", "-R", f"app:80:localhost:{web.port}"))
        talk = tmp_path / "talk.py"
        talk.write_text(
            "import os, pty, sys\n"
            "pid, terminal = pty.fork()\n"
            "if not pid: os.execvp('sh', ['sh', '-c', sys.argv[1]])\n"
            "import threading\n"
            "def read():\n"
            "    try:\n"
            "        while data := os.read(terminal, 4096): os.write(1, data)\n"
            "    except OSError: pass\n"
            "reader = threading.Thread(target=read); reader.start()\n"
            "import signal\n"
            "signal.signal(signal.SIGUSR1, lambda *_: os.write(terminal, b'\\x03'))\n"
            "_, status = os.waitpid(pid, 0); reader.join(); sys.exit(os.waitstatus_to_exitcode(status))\n"
        )
        argv = [sys.executable, str(talk), command]
        async with start_process(argv, ready=r"http://app\.t\.test") as client:
            assert (await site.ask("app")).status == 200
            await client.expect_async(r"\d\d:\d\d:\d\d 127\.0\.0\.1:\d+ → http://app\.t\.test")
            client.signal(signal.SIGUSR1)
            assert await client.wait_async() == 0
        await until(lambda: not site.relay._sessions)


# --- streams --------------------------------------------------------------------------------------


async def pairs(site: SshSite, service: Service, count: int) -> list[tuple[Wire, Wire]]:
    """Visitors of the first TCP port, each with its connection to the service."""
    result = []
    for number in range(count):
        visitor = await site.visit(PORTS[0])
        await visitor.send(b"%03d" % number)
        connection = await service.connection(number)
        assert await connection.exactly(3) == b"%03d" % number
        result.append((visitor, connection))
    return result


async def test_half_close_keeps_the_whole_answer(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(hold) as service:
        async with site.ssh("-R", f"{PORTS[0]}:localhost:{service.port}", ready="^tcp://"):
            ((visitor, connection),) = await pairs(site, service, 1)
            sent = b"request" * 150_000
            sending = asyncio.create_task(visitor.send(sent))
            assert await connection.exactly(len(sent)) == sent
            await sending
            visitor.shutdown()
            assert await connection.ended()
            answer = b"answer" * 300_000
            sending = asyncio.create_task(connection.send(answer))
            assert await visitor.exactly(len(answer)) == answer
            await sending
            connection.close()
            assert await visitor.ended()
            session = site.relay._sessions[0]
            await until(lambda: not session.busy)


async def test_a_reset_visitor_ends_the_service_connection(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(hold) as service:
        async with site.ssh("-R", f"{PORTS[0]}:localhost:{service.port}", ready="^tcp://"):
            ((visitor, connection),) = await pairs(site, service, 1)
            visitor.reset()
            assert await connection.ended()  # OpenSSH knows no other way to say it
            session = site.relay._sessions[0]
            await until(lambda: not session.busy)


async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(hold) as service:
        port = service.port
    async with ssh_relay(tmp_path) as site:
        forwards = ["-R", f"{PORTS[0]}:localhost:{port}", "-R", f"app:80:localhost:{port}"]
        async with site.ssh(*forwards, ready="^http://"):
            visitor = await site.visit(PORTS[0])
            assert await visitor.broken() == b""
            assert (await site.ask("app")).status == 502


async def test_one_stopped_reader_leaves_the_others_alone(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(hold) as service:
        async with site.ssh("-R", f"{PORTS[0]}:localhost:{service.port}", ready="^tcp://"):
            (stopped, flood), (visitor, connection) = await pairs(site, service, 2)
            flooding = asyncio.create_task(flood.send(bytes(64 << 20)))
            stream = next(iter(site.relay._sessions[0].started))
            await until(lambda: any(s.paused for s in site.relay._sessions[0].started))
            data = bytes(range(256)) * 40_000
            for one, other in ((visitor, connection), (connection, visitor)):
                sending = asyncio.create_task(one.send(data))
                assert await other.exactly(len(data)) == data
                await sending
            assert not flooding.done()
            assert stream is not None
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            stopped.reset()


# --- ghosts ---------------------------------------------------------------------------------------


async def test_a_frozen_client_gives_its_name_to_the_next_one(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        forward = ["-R", f"app:80:localhost:{web.port}", "-R", f"{PORTS[0]}:localhost:{web.port}"]
        async with site.ssh(*forward, ready="^tcp://") as ghost:
            ghost.signal(signal.SIGSTOP)
            again = ["-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5", *forward]
            async with site.ssh(*again, ready="^tcp://"):
                assert (await site.ask("app")).status == 200
                assert len(site.relay._sessions) == 1
            ghost.signal(signal.SIGCONT)


async def test_a_killed_client_gives_it_at_once(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", f"app:80:localhost:{web.port}"]
        for _ in range(2):
            async with site.ssh(*forward) as client:
                await until(lambda: any(session.tunnels for session in site.relay._sessions))
                await asyncio.to_thread(client.kill)


async def test_a_live_client_is_not_evicted(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        forward = ["-R", f"app:80:localhost:{web.port}"]
        async with site.ssh(*forward, ready="^http://") as first:
            done = await run(*site.argv(*forward))
            assert done.returncode == 6
            assert first.running
            assert (await site.ask("app")).status == 200


async def test_a_dead_client_is_found_by_asking(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, limits=QUICK) as site, Service(answering(OK)) as web:
        async with site.ssh("-R", f"app:80:localhost:{web.port}", ready="^http://") as client:
            client.signal(signal.SIGSTOP)
            await until(lambda: not site.relay._sessions)
            client.signal(signal.SIGCONT)


async def test_a_quiet_client_stays(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, limits=QUICK) as site, Service(answering(OK)) as web:
        async with site.ssh("-N", "-R", f"app:80:localhost:{web.port}"):
            await until(lambda: any(session.tunnels for session in site.relay._sessions))
            (session,) = site.relay._sessions
            asked = []
            ping = session.connection.ping
            session.connection.ping = lambda: (asked.append(1), ping())
            await until(lambda: len(asked) > 3)
            assert (await site.ask("app")).status == 200


# --- what there is not ----------------------------------------------------------------------------


async def test_nothing_is_opened_run_or_lent(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        done = await run(*site.argv("-W", "127.0.0.1:22"))
        assert b"administratively prohibited: The relay connects to nothing" in done.stderr
        done = await run(*site.argv("-s", "--", "sftp"))
        assert b"subsystem request failed" in done.stderr
        done = await run(*site.argv("-R", "/tmp/socket:localhost:1", "-N", "-o", "ExitOnForwardFailure=yes"))
        assert b"remote port forwarding failed" in done.stderr
        done = await run(*site.argv("--", "cat /etc/passwd"))
        assert b"Not an option: 'cat'" in done.stderr


@pytest.mark.needs("curl")
async def test_socks_is_refused(tmp_path: Path) -> None:
    from tests.support.addresses import free_port

    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        port = free_port()
        async with start_process(site.argv("-N", "-D", f"127.0.0.1:{port}"), ready=port) as client:
            done = await run(
                program("curl"), "-sS", "-x", f"socks5h://127.0.0.1:{port}", f"http://127.0.0.1:{web.port}/"
            )
            assert done.returncode == 97
            await client.expect_async("The relay connects to nothing")
            assert not web.connections

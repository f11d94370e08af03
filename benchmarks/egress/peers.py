"""The proxies, as their own documentation runs them: no logs, no authentication, loopback allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.model import LOOPBACK, Address
from benchmarks.processes import ROOT, Launcher, free_address

DANTE = """\
logoutput: {directory}/dante.log
errorlog: /dev/null
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: none
clientmethod: none
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 }}
"""
TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 600
LogLevel Critical
LogFile "{directory}/tinyproxy.log"
MaxClients 4500
"""
SQUID = """\
http_port 127.0.0.1:{port}
http_access allow all
access_log none
cache_log /dev/null
cache deny all
pid_filename none
coredump_dir {directory}
shutdown_lifetime 0 seconds
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """``start`` starts it at an address. ``program`` is what has to be installed."""

    name: str
    protocols: tuple[str, ...]
    program: str
    start: Callable[[Launcher, Address], None]


def _tunnelkit(launch: Launcher, address: Address) -> None:
    launch.run(
        sys.executable, "-m", "tunnelkit", "egress",
        "--listen", str(address),
        "--source-ip", LOOPBACK,
        "--allow", LOOPBACK,
        "--access-log", "off",
        env={"PYTHONPATH": str(ROOT)},
    ).expect("listening")  # fmt: skip


def _microsocks(launch: Launcher, address: Address) -> None:
    command = ("microsocks", "-i", address.host, "-p", str(address.port))
    launch.run(*command).expect_listening(address)


def _dante(launch: Launcher, address: Address) -> None:
    text = DANTE.format(directory=launch.directory, port=address.port)
    launch.run("danted", "-f", launch.write("danted.conf", text)).expect_listening(address)


def _tinyproxy(launch: Launcher, address: Address) -> None:
    text = TINYPROXY.format(directory=launch.directory, port=address.port)
    launch.run("tinyproxy", "-d", "-c", launch.write("tinyproxy.conf", text)).expect_listening(address)


def _squid(launch: Launcher, address: Address) -> None:
    text = SQUID.format(directory=launch.directory, port=address.port)
    launch.directory.chmod(0o755)
    path = launch.directory / "squid.conf"
    path.write_text(text)
    launch.run("squid", "-N", "-f", str(path)).expect_listening(address)


def _pproxy(launch: Launcher, address: Address) -> None:
    launch.run("pproxy", "-l", f"http+socks5://{address}").expect_listening(address)


def _proxy_py(launch: Launcher, address: Address) -> None:
    command = ("proxy", "--hostname", address.host, "--port", str(address.port), "--log-level", "ERROR")
    launch.run(*command).expect_listening(address)


PROXIES = (
    Proxy("tunnelkit", ("socks5", "connect"), sys.executable, _tunnelkit),
    Proxy("microsocks", ("socks5",), "microsocks", _microsocks),
    Proxy("dante", ("socks5",), "danted", _dante),
    Proxy("tinyproxy", ("connect",), "tinyproxy", _tinyproxy),
    Proxy("squid", ("connect",), "squid", _squid),
    Proxy("pproxy", ("socks5", "connect"), "pproxy", _pproxy),
    Proxy("proxy.py", ("connect",), "proxy", _proxy_py),
)


def started(proxy: Proxy, launch: Launcher) -> Address:
    """Start ``proxy``; where it listens."""
    address = free_address()
    proxy.start(launch, address)
    return address

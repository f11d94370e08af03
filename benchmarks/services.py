"""The services that visitors are after, the same for every peer."""

from __future__ import annotations

from benchmarks.model import Address
from benchmarks.processes import Launcher, free_address
from benchmarks.stage import program

# One worker, so that it takes one of the machine's cores at most; connections are never closed for
# their age, or the wait for a new one would be measured with them.
NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen {address} backlog=4096;
        default_type text/plain;
        location / {{ return 200 "{body}"; }}
    }}
}}
"""
BODY = "hello from behind the tunnel"


def http(launch: Launcher) -> Address:
    """nginx, which answers every request with 28 bytes of text."""
    address = free_address()
    text = NGINX.format(directory=launch.directory, address=address, body=BODY)
    nginx = launch.run("nginx", "-e", "stderr", "-c", launch.write("nginx.conf", text))
    nginx.expect("start worker process ")
    return address


def echo(launch: Launcher) -> Address:
    """The echo service of our own: nothing that Debian has echoes for thousands of visitors."""
    address = free_address()
    launch.run(*program("echo", str(address.port))).expect("^listening$")
    return address


def iperf3(launch: Launcher) -> Address:
    """iperf3's server: sink and source in one."""
    address = free_address()
    server = launch.run(
        "iperf3", "--server", "--bind", address.host, "--port", str(address.port), "--forceflush"
    )
    server.expect("^Server listening")
    return address

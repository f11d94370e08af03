"""nginx as an HTTP reverse proxy of one hop, with upstream connections kept alive as its
documentation advises (https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive).

A worker for each core, no logs. It opens its listener before it starts its workers.
"""

from __future__ import annotations

from benchmarks.model import Address, Mode, Peer, Security
from benchmarks.processes import Launcher, free_address

CONFIGURATION = """\
daemon off;
worker_processes auto;
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
    upstream service {{
        server {service};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {public} backlog=4096;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


def start(launch: Launcher, _mode: Mode, service: Address) -> Address:
    public = free_address()
    text = CONFIGURATION.format(directory=launch.directory, public=public, service=service)
    nginx = launch.run("nginx", "-e", "stderr", "-c", launch.write("nginx.conf", text))
    nginx.expect("start worker process ")
    return public


PEER = Peer(
    name="nginx",
    about="reverse proxy, one hop",
    security=Security.PLAIN,
    modes=frozenset({Mode.HTTP}),
    start=start,
    hops=1,
    programs=("nginx",),
    version=("nginx", "-v"),
)

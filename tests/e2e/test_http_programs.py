"""curl as visitor, nginx and ``python -m http.server`` as services."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.http_support import SPLICES, Service, Wire, tunnelled
from tests.support import free_port, program, run, start_process

pytestmark = pytest.mark.needs("curl")

LARGE = 30_000_000

NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    log_format connections '$connection $request';
    access_log {directory}/access.log connections;
    client_body_temp_path {directory}/temporary;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type text/plain;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/files;
        location / {{ dav_methods PUT; client_max_body_size 0; }}
        location /limited {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{port}/large; }}
        location /nothing {{ return 204; }}
        location /visitor {{ return 200 "$host $http_host $http_x_forwarded_for $http_x_forwarded_host"; }}
        location /closing {{ keepalive_timeout 0; return 200 "closing"; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    port: int
    directory: Path

    @property
    def files(self) -> Path:
        return self.directory / "files"

    def connections(self) -> list[str]:
        """The connection of each request so far, by nginx's own number."""
        lines = (self.directory / "access.log").read_text().splitlines()
        return [line.split()[0] for line in lines]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "files").mkdir()
    server = Nginx(free_port(), directory)
    (server.files / "large").write_bytes(random.Random(5).randbytes(LARGE))
    (server.files / "small").write_text("small")
    configuration = directory / "nginx.conf"
    # Otherwise the worker of a root's nginx is somebody who may not see the files.
    user = "" if os.getuid() else "user root;"
    configuration.write_text(NGINX.format(directory=directory, port=server.port, user=user))
    with start_process([program("nginx"), "-e", "stderr", "-c", configuration], ready=server.port):
        yield server


@pytest.fixture(scope="module")
def python_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Answers in HTTP/1.0, one request a connection; its port and its files."""
    files = tmp_path_factory.mktemp("files")
    (files / "large").write_bytes(random.Random(5).randbytes(LARGE))
    (files / "small").write_text("small")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", files]
    with start_process(command, ready=r"port (\d+)") as server:
        yield int(server.ready[1]), files


def digest(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


async def curl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """What curl writes to its standard output; it has to succeed."""
    result = await run(program("curl"), "-sS", "--max-time", "20", *arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def summary(*names: str) -> tuple[str, str]:
    """Options that make curl end its output with these of its variables, as JSON."""
    wanted = ",".join(f'"{name}":"%{{{name}}}"' for name in names)
    return "--write-out", f"\n{{{wanted}}}\n"


# --- nginx --------------------------------------------------------------------------------------


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("splice", SPLICES)
async def test_files_of_nginx_arrive_whole(nginx: Nginx, splice: bool) -> None:
    async with tunnelled(nginx.port, splice=splice) as site:
        received = await curl(f"{site.url}/large")
        assert digest(received) == digest((nginx.files / "large").read_bytes())
        part = await curl(f"{site.url}/large", "--range", "1000-1999999")
        assert part == (nginx.files / "large").read_bytes()[1000:2_000_000]


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("splice", SPLICES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_uploads_to_nginx_arrive_whole(
    nginx: Nginx, tmp_path: Path, splice: bool, chunked: bool
) -> None:
    """curl waits for 100 Continue before it sends this much."""
    upload = nginx.files / "large"
    options = ["--header", "Transfer-Encoding: chunked"] if chunked else []
    name = f"uploaded-{splice}-{chunked}"
    async with tunnelled(nginx.port, splice=splice) as site:
        headers = await curl("-v", "--stderr", "-", "-T", upload, *options, f"{site.url}/{name}")
    assert b"HTTP/1.1 100 Continue" in headers
    assert digest((nginx.files / name).read_bytes()) == digest(upload.read_bytes())
    (nginx.files / name).unlink()


@pytest.mark.needs("nginx")
async def test_one_connection_to_nginx_carries_many_requests(nginx: Nginx) -> None:
    async with tunnelled(nginx.port) as site:
        before = len(nginx.connections())
        urls = [f"{site.url}/small", f"{site.url}/nothing", f"{site.url}/missing"] * 5
        output = await curl(*urls, *summary("http_code", "num_connects", "local_port"))
        codes = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
        assert len({code["local_port"] for code in codes}) == 1
        await curl("--head", f"{site.url}/large")
        assert len(set(nginx.connections()[before:])) == 1


@pytest.mark.needs("nginx")
async def test_what_nginx_knows_of_a_visitor(nginx: Nginx) -> None:
    async with tunnelled(nginx.port) as site:
        headers = ["--header", "Host: app.test:81", "--header", "X-Forwarded-For: 6.6.6.6"]
        answer = await curl(*headers, f"{site.url}/visitor")
        assert answer == b"app.test app.test:81 127.0.0.1 app.test:81"


@pytest.mark.needs("nginx")
async def test_nginx_may_close_after_each_answer(nginx: Nginx) -> None:
    async with tunnelled(nginx.port) as site:
        assert await curl(*[f"{site.url}/closing"] * 5) == b"closing" * 5


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("expect", ["", "100-continue"])
async def test_an_upload_that_nginx_does_not_want(nginx: Nginx, expect: str) -> None:
    """It answers before the body, which curl is still sending."""
    async with tunnelled(nginx.port) as site:
        output = await curl(
            *("-H", f"Expect: {expect}", "--data-binary", f"@{nginx.files / 'large'}"),
            *("-o", "/dev/null", "-w", "%{http_code} %{size_upload}", f"{site.url}/limited"),
        )
        code, uploaded = output.split()
        assert code == b"413"
        assert int(uploaded) < LARGE


@pytest.mark.needs("nginx")
async def test_http_1_0_and_pages_without_a_body(nginx: Nginx) -> None:
    async with tunnelled(nginx.port) as site:
        assert await curl("--http1.0", f"{site.url}/small") == b"small"
        assert b"Content-Length: %d" % LARGE in await curl("--head", f"{site.url}/large")
        modified = await curl("--head", f"{site.url}/small")
        (tag,) = (line.split()[1].decode() for line in modified.splitlines() if line.startswith(b"ETag"))
        options = ["-H", f"If-None-Match: {tag}", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]
        assert await curl(*options, f"{site.url}/small") == b"304 0"


# --- python -m http.server ----------------------------------------------------------------------


@pytest.mark.parametrize("splice", SPLICES)
async def test_files_of_http_server_arrive_whole(python_server: tuple[int, Path], splice: bool) -> None:
    port, files = python_server
    async with tunnelled(port, splice=splice) as site:
        assert digest(await curl(f"{site.url}/large")) == digest((files / "large").read_bytes())
        output = await curl(*[f"{site.url}/small"] * 3, *summary("local_port"))
        ports = {line for line in output.splitlines() if line.startswith(b"{")}
        assert output.count(b"small") == 3
        assert len(ports) == 1, "the visitor's connection is kept although the service's is not"
        assert b"small" in await curl(f"{site.url}/")


# --- curl ---------------------------------------------------------------------------------------


async def test_curl_uploads_in_chunks_what_it_does_not_know_the_length_of() -> None:
    body = random.Random(9).randbytes(3_000_000)

    async def handle(wire: Wire) -> None:
        request = await wire.request()
        assert request[b"Transfer-Encoding"] == b"chunked"
        text = digest(request.body).encode()
        await wire.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)
        )

    async with Service(handle) as service, tunnelled(service) as site:
        assert await curl("-X", "POST", "-T", "-", site.url, stdin=body) == digest(body).encode()

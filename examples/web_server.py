"""A web server on this machine gets a public address.

    python examples/web_server.py            # stays up until Ctrl-C
    python examples/web_server.py --once     # fetches its own page through the tunnel and ends

Without a relay configured the address works on this machine only; with TUNNELKIT_RELAY and TUNNELKIT_TOKEN
set it is the relay's.
"""

import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tunnelkit


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"Hello, {self.headers['X-Forwarded-For']}! You asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tunnelkit.Tunnel.create(port=server.server_port) as tunnel:
        print(f"Serving at {tunnel.url}", flush=True)
        if "--once" in sys.argv:
            with urllib.request.urlopen(tunnel.url) as answer:
                print(answer.read().decode(), end="")
        else:
            threading.Event().wait()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass

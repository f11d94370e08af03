"""Heads that two servers could read in two ways: each by its name, and every one refused."""

from __future__ import annotations

import pytest

from tests.wire.http_heads import answer, head
from tunnelkit.wire.http_head import MAX_FIELDS, MAX_HEAD, HeadError, parse_request, parse_response

REFUSED = {
    # Where the body ends (RFC 9112 §6, §11.2).
    "length and coding": head("Content-Length: 5", "Transfer-Encoding: chunked"),
    "coding and length": head("Transfer-Encoding: chunked", "Content-Length: 5"),
    "equal lengths": head("Content-Length: 5", "Content-Length: 5"),
    "different lengths": head("Content-Length: 5", "content-length: 6"),
    "list of equal lengths": head("Content-Length: 5, 5"),
    "length with a plus": head("Content-Length: +5"),
    "length with a minus": head("Content-Length: -5"),
    "length with an underscore": head("Content-Length: 1_0"),
    "hexadecimal length": head("Content-Length: 0x5"),
    "length with a fraction": head("Content-Length: 5.0"),
    "length with a space inside": head("Content-Length: 1 0"),
    "empty length": head("Content-Length:"),
    "blank length": head("Content-Length:  "),
    "superscript length": head("Content-Length: \xb2"),
    "length of 20 digits": head("Content-Length: 00000000000000000005"),
    "length over 63 bits": head("Content-Length: 9223372036854775808"),
    "chunked twice in a field": head("Transfer-Encoding: chunked, chunked"),
    "chunked twice in two fields": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked not last": head("Transfer-Encoding: chunked, gzip"),
    "identity": head("Transfer-Encoding: identity"),
    "chunked and identity": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "empty coding": head("Transfer-Encoding:"),
    "coding of commas": head("Transfer-Encoding: ,"),
    "coding after a vertical tab": head("Transfer-Encoding: \x0bchunked"),
    "coding in HTTP/1.0": head("Transfer-Encoding: chunked", start="POST / HTTP/1.0"),
    "lookalike of Content-Length": head("Content_Length: 5"),
    "lookalike of Transfer-Encoding": head("transfer.encoding: chunked"),
    # Lines.
    "bare LF": head("A: b\nContent-Length: 5"),
    "bare LF after the start line": head().replace(b"\r\n", b"\n", 1),
    "bare LF as last line end": head()[:-2] + b"\n",
    "bare LFs only": head().replace(b"\r\n", b"\n"),
    "bare CR": head("A: b\rContent-Length: 5"),
    "CR CR LF": head("A: b\r"),
    "bare CR in the target": head(start="GET /\rx HTTP/1.1"),
    "NUL in a value": head("A: b\0c"),
    "NUL in a name": head("A\0: b"),
    "backspace in a value": head("A: \x08"),
    "escape in a value": head("A: \x1b[2J"),
    "DEL in a value": head("A: \x7f"),
    "form feed before a name": head("\x0cA: b"),
    "space before the colon": head("Content-Length : 5"),
    "tab before the colon": head("Content-Length\t: 5"),
    "folded by a space": head("A: b", " c"),
    "folded by a tab": head("A: b", "\tContent-Length: 5"),
    "folded first line": head(" A: b", host=None),
    "no name": head(": b"),
    "no colon": head("Accept"),
    "no colon, special": head("Connection"),
    "no colon, unknown": head("Unknown"),
    "space in a name": head("A b: c"),
    "delimiter in a name": head("A(b): c"),
    "quoted name": head('"A": b'),
    "non-ASCII name": head("\xc4: b"),
    "blank line inside": head("", "A: b"),
    "text after the end": head() + b"x",
    "no end": head()[:-2],
    "nothing": b"",
    "CRLF alone": b"\r\n",
    "blank line alone": b"\r\n\r\n",
    # Host (RFC 9112 §3.2).
    "no Host": head(host=None),
    "two Hosts": head("Host: app.test"),
    "two Hosts by case": head("hOsT: other.test"),
    "empty Host": head(host=""),
    "Host with user": head(host="user@app.test"),
    "Host with user and password": head(host="u:p@app.test"),
    "Host with a path": head(host="app.test/x"),
    "Host with a backslash": head(host="app.test\\x"),
    "Host with a query": head(host="app.test?x"),
    "Host with a fragment": head(host="app.test#x"),
    "Host with a space": head(host="app.test x"),
    "Host with a tab": head(host="app\t.test"),
    "list of Hosts": head(host="app.test, other.test"),
    "Host with an escape": head(host="app%2etest"),
    "Host with a NUL escape": head(host="app.test%00"),
    "Host with a quote": head(host='"app.test"'),
    "non-ASCII Host": head(host="\xe4pp.test"),
    "empty port": head(host="app.test:"),
    "port 0": head(host="app.test:0"),
    "port over 65535": head(host="app.test:65536"),
    "port with a sign": head(host="app.test:+80"),
    "named port": head(host="app.test:http"),
    "two ports": head(host="app.test:80:80"),
    "port alone": head(host=":80"),
    "dot alone": head(host="."),
    "empty label": head(host="app..test"),
    "leading dot": head(host=".app.test"),
    "two trailing dots": head(host="app.test.."),
    "long Host": head(host="a" * 300),
    "bare IPv6": head(host="::1"),
    "no IPv6": head(host="[1::2::3]"),
    "IPv6 with a zone": head(host="[fe80::1%eth0]"),
    "open bracket": head(host="[::1"),
    "brackets around a name": head(host="[app.test]"),
    "text after brackets": head(host="[::1]x"),
    "two Hosts in HTTP/1.0": head("Host: b.test", start="GET / HTTP/1.0"),
    # Start line.
    "HTTP/0.9": head(start="GET /"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\n",
    "lower-case protocol": head(start="GET / http/1.1"),
    "other protocol": head(start="GET / ICY/1.1"),
    "CONNECT": head(start="CONNECT app.test:443 HTTP/1.1"),
    "CONNECT with a path": head(start="CONNECT / HTTP/1.1"),
    "no target": head(start="GET  HTTP/1.1"),
    "no method": head(start=" / HTTP/1.1"),
    "no token as method": head(start="G{T / HTTP/1.1"),
    "two spaces": head(start="GET  / HTTP/1.1"),
    "space in the target": head(start="GET /a b HTTP/1.1"),
    "tab for a space": head(start="GET\t/ HTTP/1.1"),
    "tab in the target": head(start="GET /a\tb HTTP/1.1"),
    "space after the version": head(start="GET / HTTP/1.1 "),
    "non-ASCII target": head(start="GET /\xe4 HTTP/1.1"),
    "fragment": head(start="GET /#top HTTP/1.1"),
    "relative target": head(start="GET path HTTP/1.1"),
    "asterisk for GET": head(start="GET * HTTP/1.1"),
    "URL of another host": head(start="GET http://other.test/ HTTP/1.1"),
    "URL with user": head(start="GET http://user@app.test/ HTTP/1.1"),
    "URL with another port": head(start="GET http://app.test:80/ HTTP/1.1"),
    "URL of another scheme": head(start="GET ftp://app.test/ HTTP/1.1"),
    "URL without a host": head(start="GET http:///path HTTP/1.1"),
    "URL without Host": head(start="GET http://app.test/ HTTP/1.0", host=None),
    # Between neighbours.
    "Connection nominates Host": head("Connection: close, Host"),
    "Connection nominates Content-Length": head("Connection: content-length", "Content-Length: 5"),
    "Connection nominates Transfer-Encoding": head("Connection: Transfer-Encoding"),
    "Connection nominates a lookalike": head("Connection: content_length"),
    "Connection nominates Expect": head("Connection: expect"),
    "malformed Connection": head("Connection: close; x"),
    "h2c": head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
    "h2c in a list": head("Connection: upgrade", "Upgrade: websocket, H2C"),
    "h2c in two fields": head("Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c"),
    "h2c not nominated": head("Upgrade: h2c"),
    "malformed Upgrade": head("Connection: upgrade", "Upgrade: web socket"),
}

REFUSED_OTHERWISE = {
    "unknown coding": (501, head("Transfer-Encoding: gzip")),
    "unknown coding before chunked": (501, head("Transfer-Encoding: gzip, chunked")),
    "lookalike of chunked": (501, head("Transfer-Encoding: xchunked")),
    "parameter of chunked": (501, head("Transfer-Encoding: chunked;q=1")),
    "HTTP/1.2": (505, head(start="GET / HTTP/1.2")),
    "HTTP/2": (505, head(start="GET / HTTP/2")),
    "HTTP/3.0": (505, head(start="GET / HTTP/3.0")),
    "unknown expectation": (417, head("Expect: 200-ok")),
    "two expectations": (417, head("Expect: 100-continue, x")),
    "obscured expectation": (417, head("Expect: y 100-continue")),
    "too many fields": (431, head(*["A: b"] * MAX_FIELDS)),
    "too long": (431, head("A: " + "b" * MAX_HEAD)),
}


REFUSED_RESPONSES = {
    "length and coding": answer("Content-Length: 5", "Transfer-Encoding: chunked"),
    "two lengths": answer("Content-Length: 5", "Content-Length: 5"),
    "signed length": answer("Content-Length: +5"),
    "unknown coding": answer("Transfer-Encoding: gzip"),
    "coding in HTTP/1.0": answer("Transfer-Encoding: chunked", start="HTTP/1.0 200 OK"),
    "bare LF": answer("A: b\nSet-Cookie: c"),
    "NUL": answer("A: \0"),
    "folded": answer("A: b", " c"),
    "space before the colon": answer("A : b"),
    "Connection nominates Content-Length": answer("Connection: content-length"),
    "HTTP/2": answer(start="HTTP/2 200"),
    "HTTP/1.2": answer(start="HTTP/1.2 200 OK"),
    "short status": answer(start="HTTP/1.1 20 OK"),
    "long status": answer(start="HTTP/1.1 2000 OK"),
    "status under 100": answer(start="HTTP/1.1 099 OK"),
    "signed status": answer(start="HTTP/1.1 +20 OK"),
    "two spaces": answer(start="HTTP/1.1  200 OK"),
    "other protocol": answer(start="ICY 200 OK"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "switch without Upgrade": answer("Connection: upgrade", start="HTTP/1.1 101 x"),
    "switch not nominated": answer("Upgrade: websocket", start="HTTP/1.1 101 x"),
    "too many fields": answer(*["A: b"] * (MAX_FIELDS + 1)),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_ambiguous_or_malformed_request_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        parse_request(data)
    assert caught.value.status == 400


@pytest.mark.parametrize(("status", "data"), REFUSED_OTHERWISE.values(), ids=REFUSED_OTHERWISE)
def test_what_is_not_served_has_a_status_of_its_own(status: int, data: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        parse_request(data)
    assert caught.value.status == status


@pytest.mark.parametrize("data", REFUSED_RESPONSES.values(), ids=REFUSED_RESPONSES)
def test_malformed_response_is_a_bad_gateway(data: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        parse_response(data, method=b"GET")
    assert caught.value.status == 502

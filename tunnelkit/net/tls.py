"""TLS on a raw non-blocking socket, which behaves like one: the byte path needs no second way.

:class:`TlsSocket` drives an :class:`ssl.SSLObject` over memory. Unlike :class:`ssl.SSLSocket` it
can start with bytes that were read before, and it half-closes: after :meth:`TlsSocket.shutdown` it
goes on receiving. An end of TCP without the peer's close_notify is a truncation, not an end.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import Iterable
from typing import ClassVar, cast

from tunnelkit.errors import CertificateError, InvalidError, NotARelayError, TunnelkitError
from tunnelkit.net.ready import readable, writable

__all__ = ["TlsSocket", "check_fingerprint", "client_context", "parse_fingerprint", "start_client"]

MAX_RECORD = 5 + 16384 + 256
"""Bytes of the longest record: header, plaintext and expansion (RFC 8446 §5.2)."""

CHUNK = 64 * 1024
"""Bytes that pass through OpenSSL's memory at once, each way: four records. That memory stays as large
as it ever was until the connection ends, and a peer that stops reading leaves a chunk of ciphertext
here. Half of it costs a fifth more CPU a byte, larger ones gain nothing."""

MAX_SEND = 256 * 1024
"""Bytes encrypted in one call of ``send``, so that a peer with a fast link cannot keep the loop."""

MAX_ROUNDS = 16
"""Receives in one call of ``recv_into``: a peer that sends records without payload, as fast as they
are read, cannot keep the loop."""

MAX_ANSWERS = 64 * 1024
"""Bytes kept that OpenSSL wants to send by itself (alerts, key updates). A peer that provokes more
and reads none of it is cut off."""


class TlsSocket:
    """One TLS connection over the connected, non-blocking ``sock``, which it owns from here on.

    ``received`` is what has been read from ``sock`` before; ``session`` is an earlier one with the same
    server and ``context``, to be resumed if the server still knows it. Finish the handshake before anything
    else: :meth:`handshake`, or :meth:`do_handshake` for those who wait by themselves.

    Errors are those of a socket: BlockingIOError to come back later, another OSError when the
    connection is of no more use.
    """

    greedy: ClassVar[bool] = True
    """Received bytes, or the end, may be held here where the descriptor does not report them: call
    ``recv_into`` again for as long as :meth:`pending`, or until BlockingIOError."""

    __slots__ = (
        "_fresh_end",
        "_incoming",
        "_outgoing",
        "_owed",
        "_plaintext",
        "_received_end",
        "_sent_end",
        "_tls",
        "_unsent",
        "server_side",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        received: bytes = b"",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.sock = sock
        self.server_side = server_side
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._incoming.write(received)
        self._plaintext = b""  # decrypted ahead of the reader, at most a record
        self._unsent = memoryview(b"")  # ciphertext that the kernel has not taken yet
        self._owed = 0  # the plaintext bytes in it, which the caller sends once more
        self._sent_end = False
        self._received_end = False
        self._fresh_end = False  # received, but not reported by recv_into yet

    # --- handshake ------------------------------------------------------------------------------

    async def handshake(self, timeout: float) -> None:
        """Complete the handshake within ``timeout`` seconds, else TimeoutError.

        Other errors: :meth:`do_handshake`.
        """
        async with asyncio.timeout(timeout):
            while True:
                try:
                    self.do_handshake()
                except BlockingIOError:
                    await (writable(self) if self.wants_write else readable(self))
                else:
                    return

    def do_handshake(self) -> None:
        """Take the handshake as far as it goes; BlockingIOError until it is complete.

        Wait for the socket to be writable if :attr:`wants_write`, else readable, then call again.
        A client raises :class:`CertificateError` and :class:`NotARelayError`; all else is OSErrors.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError as error:
                self._flush_answers()  # the alert that tells the peer why
                raise self._handshake_error(error) from error
            else:
                self._flush()
                return

    def _handshake_error(self, error: ssl.SSLError) -> TunnelkitError | ConnectionAbortedError:
        if self.server_side:
            return ConnectionAbortedError(f"TLS handshake failed: {_reason(error)}")
        peer = self._tls.server_hostname or "the server"
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = error.verify_message.rstrip(".")
            return CertificateError(f"The certificate of {peer} is not accepted: {reason}")
        return NotARelayError(f"No TLS session with {peer}: {_reason(error)}")

    def _receive(self) -> None:
        received = self.sock.recv(MAX_RECORD)
        if not received:
            raise _truncated()
        self._incoming.write(received)

    @property
    def wants_write(self) -> bool:
        """Whether ciphertext waits for the socket to be writable."""
        return bool(self._unsent) or self._outgoing.pending > 0

    # --- receiving ------------------------------------------------------------------------------

    def pending(self) -> int:
        """Bytes held that have not been read yet, encrypted or not; an end counts as one."""
        held = len(self._plaintext) + self._tls.pending() + self._incoming.pending
        return held + self._fresh_end

    def recv_into(self, buffer: memoryview | bytearray) -> int:
        """Decrypt into ``buffer``, all of which is working space; 0 is the peer's close_notify.

        ConnectionAbortedError where the connection ended without one, or was tampered with.
        """
        view = memoryview(buffer)
        count = self._decrypt(view) if self.pending() else 0
        for _ in range(MAX_ROUNDS):
            # What is held of an unfinished record has to fit in with what is received now.
            room = len(view) - count - MAX_RECORD
            if self._received_end or (count and room < MAX_RECORD):
                break
            try:
                received = self._receive_through(view[count:], room)
            except OSError:
                if count:
                    break  # what has arrived comes first; a failure is told the next time
                raise
            count += self._decrypt(view[count:])
            if count and received < CHUNK:
                break  # the kernel has no more
        if not count and not self._received_end:
            raise BlockingIOError
        self._fresh_end = self._received_end and count > 0
        return count

    def _receive_through(self, scratch: memoryview, room: int) -> int:
        """Pass ciphertext on by way of ``scratch``, where its plaintext goes: no other buffer."""
        if room < MAX_RECORD:
            self._receive()
            return 0
        received = self.sock.recv_into(scratch[: min(room, CHUNK)])
        if not received:
            raise _truncated()
        self._incoming.write(scratch[:received])
        return received

    def _decrypt(self, view: memoryview) -> int:
        """Decrypt what has arrived into ``view``, for as long as it has room."""
        if self._plaintext:
            count = min(len(view), len(self._plaintext))
            view[:count] = self._plaintext[:count]
            self._plaintext = self._plaintext[count:]
            return count
        count, room = 0, len(view)
        try:
            while count < room:
                read = cast(int, self._tls.read(room - count, view[count:]))
                if not read:
                    self._end_received()
                    break
                count += read
                if not self._incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._end_received()
        except ssl.SSLError as error:
            self._flush_answers()
            raise ConnectionAbortedError(f"TLS failed: {_reason(error)}") from error
        if self._outgoing.pending:
            self._flush_answers()
        return count

    def _end_received(self) -> None:
        self._received_end = True
        self._incoming.read()  # what follows a close_notify is ignored (RFC 8446 §6.1)

    # --- sending --------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt and send; how many bytes the kernel has got in full.

        Where it takes only part of the ciphertext the rest is kept. Then the count is short, or
        BlockingIOError is raised, and the next call has to begin with the bytes that were not
        counted, for they may be on their way already.
        """
        total = self._settle(len(data))
        with memoryview(data) as view:
            end = min(len(view), MAX_SEND)
            while total < end:
                count = self._encrypt(view[total : min(total + CHUNK, end)])
                try:
                    self._flush()
                except BlockingIOError:
                    self._owed = count
                    if not total:
                        raise
                    break
                total += count
        return total

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """As :meth:`send`, for the concatenation of ``buffers``."""
        return self.send(b"".join(buffers))

    def _settle(self, offered: int) -> int:
        """Send what an earlier call left; the bytes of ``offered`` that it was made of."""
        if self._unsent:
            self._flush()
        owed = self._owed
        if owed > offered:
            raise ValueError(f"The same {owed} bytes have to be sent again, not {offered} others")
        self._owed = 0
        return owed

    def _encrypt(self, chunk: memoryview) -> int:
        try:
            return self._tls.write(chunk)
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"TLS failed: {_reason(error)}") from error

    def _flush(self) -> None:
        """Hand all ciphertext to the kernel; BlockingIOError while some is left."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return
                self._unsent = memoryview(self._outgoing.read())
            self._unsent = self._unsent[self.sock.send(self._unsent) :]

    def _flush_answers(self) -> None:
        """Send what OpenSSL wants to say by itself, if that is possible now."""
        try:
            self._flush()
        except BlockingIOError:
            if self._outgoing.pending > MAX_ANSWERS:
                raise ConnectionAbortedError("A peer that wants answers and reads none") from None
        except OSError:
            pass  # receiving is what the caller is at, and it may still go on

    # --- the end --------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Half-close: send close_notify and go on receiving. SHUT_RD does nothing.

        BlockingIOError while it does not fit into the kernel: call again once the socket is
        writable. TCP stays open both ways, for its end says nothing under TLS.
        """
        if how != socket.SHUT_RD:
            if not self._sent_end:
                self._sent_end = True
                self._close_notify()
            self._flush()

    def _close_notify(self) -> None:
        # unwrap() also looks for the peer's close_notify, and takes payload in its place for a
        # violation: what has arrived is set aside until it has looked.
        if self._tls.pending():
            self._plaintext += self._tls.read(self._tls.pending())
        arrived = self._incoming.read()
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # sent; the peer's is still to come
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"TLS failed: {_reason(error)}") from error
        finally:
            self._incoming.write(arrived)

    def close(self) -> None:
        """Close the connection. Without :meth:`shutdown` before, the peer sees a truncation."""
        self.sock.close()

    # --- as a socket ----------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.sock.fileno()

    def getpeername(self) -> object:
        """The peer's address."""
        return self.sock.getpeername()

    def getsockname(self) -> object:
        """This side's address."""
        return self.sock.getsockname()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket underneath."""
        self.sock.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        """An option of the socket underneath."""
        return self.sock.getsockopt(level, option)

    @property
    def server_name(self) -> str:
        """On a server: the host name that the client asked for, in lower case; empty without one."""
        return getattr(self._tls, "server_name", "")

    def version(self) -> str | None:
        """``TLSv1.3`` or ``TLSv1.2``; None before the handshake."""
        return self._tls.version()

    @property
    def session(self) -> ssl.SSLSession | None:
        """What to resume next time; in TLS 1.3 the server sends it behind the handshake."""
        return self._tls.session

    @property
    def resumed(self) -> bool:
        """Whether the handshake took an earlier session up."""
        return bool(self._tls.session_reused)

    def certificate(self) -> bytes:
        """The peer's certificate (DER); empty where it has shown none."""
        return self._tls.getpeercert(binary_form=True) or b""


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's words for what went wrong, without its file names and line numbers."""
    return error.reason.replace("_", " ").lower() if error.reason else "the peer ended it"


def _truncated() -> ConnectionAbortedError:
    return ConnectionAbortedError("The connection ended without TLS's close_notify")


# --- clients ------------------------------------------------------------------------------------


def client_context(ca: str | None = None, fingerprint: str | None = None) -> ssl.SSLContext:
    """How to verify a relay: by the system's authorities, or those in the PEM file ``ca``.

    With the SHA-256 ``fingerprint`` of its certificate, in place of both chain and name, the
    context verifies nothing by itself: :func:`check_fingerprint` has to follow the handshake before
    a byte is sent. :func:`start_client` sees to that.
    """
    if ca and fingerprint:
        raise InvalidError("Both an authority and a fingerprint", hint="Give --ca or --fingerprint")
    # Not create_default_context(), whose strictness with home-made authorities differs by version.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if fingerprint:
        parse_fingerprint(fingerprint)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        _load_authorities(context, ca)
    else:
        context.load_default_certs()
    return context


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise InvalidError(
            f"No certificate in {path!r}", hint="--ca takes a file of certificates in PEM"
        ) from error
    except OSError as error:
        raise InvalidError(
            f"Cannot read {path!r}: {error.strerror}", hint="--ca takes a file that can be read"
        ) from error


_FINGERPRINT = re.compile(r"(?:sha256:)?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)


def parse_fingerprint(text: str) -> str:
    """The 64 digits of a SHA-256 fingerprint, given with or without colons or ``sha256:``."""
    match = _FINGERPRINT.fullmatch(text.strip())
    if match is None:
        raise InvalidError(
            f"Not a SHA-256 fingerprint: {text[:100]!r}",
            hint="It has 64 hexadecimal digits: openssl x509 -noout -fingerprint -sha256 -in FILE",
        )
    return match[1].replace(":", "").lower()


def check_fingerprint(tls: TlsSocket, fingerprint: str) -> None:
    """Raise :class:`CertificateError` unless the peer's certificate is the pinned one."""
    pinned = parse_fingerprint(fingerprint)
    actual = hashlib.sha256(tls.certificate()).hexdigest()
    if actual != pinned:
        raise CertificateError(
            f"The certificate has the SHA-256 fingerprint {actual}, not {pinned}",
            hint="Pin the new one if the relay's certificate was renewed; otherwise do not connect",
        )


async def start_client(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    host: str,
    fingerprint: str | None = None,
    timeout: float,
    received: bytes = b"",
) -> TlsSocket:
    """TLS as a client over ``sock``, verified; ``sock`` is closed where that fails.

    ``host`` is the name that the certificate has to be for, ``fingerprint`` the one that
    ``context`` was made with. Errors: :meth:`TlsSocket.handshake`, :func:`check_fingerprint`.
    """
    try:
        tls = TlsSocket(sock, context, server_side=False, server_hostname=host, received=received)
        await tls.handshake(timeout)
        if fingerprint:
            check_fingerprint(tls, fingerprint)
    except BaseException:
        sock.close()
        raise
    return tls

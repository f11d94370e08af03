"""Runs a relay until it is told to stop, and says what it is open to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tunnelkit.cli.output import stderr
from tunnelkit.cli.running import Stop, drain, run
from tunnelkit.compose import make_relay
from tunnelkit.config import RelaySettings, load_relay
from tunnelkit.wire.address import Endpoint, is_loopback

__all__ = ["serve_visitors"]


def serve_visitors(overrides: Mapping[str, object]) -> None:
    """Run ``tunnelkit serve``: ``overrides`` are settings of the command line."""
    run(partial(_serve, load_relay(overrides)), log=stderr().line)


async def _serve(settings: RelaySettings, stop: Stop) -> None:
    async with make_relay(settings) as relay:
        stop.up()
        err = stderr()
        addresses = [Endpoint(host, port) for host, port in relay.addresses]
        soon = relay.certificates.warnings() if relay.certificates is not None else []
        for warning in (*_warnings(settings, addresses), *soon):
            err.line(f"warning: {warning}")
        err.line(_offer(settings))
        if relay.ssh_fingerprint:
            places = [f"ssh://{Endpoint(host, port)}" for host, port in relay.ssh_addresses]
            here = " and ".join([*places, "the addresses below"])
            err.line(f"SSH at {here}, host key {relay.ssh_fingerprint}")
        if settings.tls_self_signed and relay.certificates is not None:
            err.line(f"TLS with a certificate of its own: --fingerprint {relay.certificates.fingerprint}")
        if settings.egress_source_ip:
            err.line(f"egress: proxies leave from {', '.join(settings.egress_source_ip)}")
        for address in addresses:
            err.line(f"listening on {'ws' if relay.certificates is None else 'wss'}://{address}")
        await stop.asked.wait()
        await drain(relay.close, settings.grace, stop)


def _warnings(settings: RelaySettings, addresses: list[Endpoint]) -> list[str]:
    """What is open to whom, in one line each."""
    public = [str(address) for address in addresses if not is_loopback(address.host)]
    warnings = []
    if not settings.token and not settings.authorized_keys:
        who = f"everybody who reaches {public[0]}" if public else "every program on this machine"
        warnings.append(f"{who} may open tunnels, for there is no token")
    if public and not (settings.tls_cert or settings.tls_self_signed):
        warnings.append(
            f"tokens and traffic are not encrypted on the way to {public[0]}; give --tls-cert and --tls-key"
        )
    return warnings


def _offer(settings: RelaySettings) -> str:
    """Which tunnels the relay has to give."""
    http = f"names below {settings.domain}" if settings.domain else "a port each"
    ports = settings.tcp_ports
    tcp = f"ports {ports.start}-{ports.stop - 1}" if ports else "none (give --tcp-ports)"
    return f"HTTP tunnels: {http}; TCP tunnels: {tcp}"

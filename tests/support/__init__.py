"""Tools of the tests."""

from __future__ import annotations

from tests.support.addresses import free_port, free_port_range
from tests.support.certificates import Certificate, certificate
from tests.support.processes import Child, ChildError, run, start_process
from tests.support.programs import program

__all__ = [
    "Certificate",
    "Child",
    "ChildError",
    "certificate",
    "free_port",
    "free_port_range",
    "program",
    "run",
    "start_process",
]

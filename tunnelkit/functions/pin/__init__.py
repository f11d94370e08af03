"""Functions whose connections leave from a pinned address, however they are made.

:mod:`choose` says which way there is on this machine, :mod:`supervisor` is the process that makes a
function's connections, :mod:`seccomp` has it asked, and :mod:`proof` looks where they come from.
"""

from tunnelkit.functions.pin.choose import EGRESS, choose

__all__ = ["EGRESS", "choose"]

"""What every test gets: both event loops, a leak check, and skips that are accounted for."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

pytest_plugins = [
    "pytester",
    "tests.plugins.loops",
    "tests.plugins.leaks",
    "tests.plugins.needs",
    "tests.plugins.skips",
    "tests.plugins.timeouts",
]

# A shell's background job ignores it, and so would every child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Time limits for single examples would measure what else the machine is doing. A CI run repeats the
# same examples, so that what it says is about the change; everyone else's look for new ones.
settings.register_profile(
    "tunnelkit", deadline=None, derandomize=os.environ.get("CI") == "true", print_blob=True
)
settings.load_profile("tunnelkit")

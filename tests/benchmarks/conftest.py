"""The benchmarks read /proc, so there is nothing to test elsewhere."""

from __future__ import annotations

import sys

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]

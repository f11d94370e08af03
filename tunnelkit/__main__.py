"""``python -m tunnelkit``: the command line."""

from __future__ import annotations

from tunnelkit.cli import main

if __name__ == "__main__":
    main()

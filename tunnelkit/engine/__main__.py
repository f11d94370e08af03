"""``python -m tunnelkit.engine DESCRIPTOR``: an engine for the program that started it."""

from __future__ import annotations

from tunnelkit.engine.process import main

if __name__ == "__main__":
    main()

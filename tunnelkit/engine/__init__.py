"""The engine process behind ``Tunnel.create`` and ``forward``.

A program has at most one, started on first use. It is a process and not a thread so that visitors
do not wait for the program's GIL: in a thread beside a busy program a visitor's median wait was
200 ms, against 0.1 ms.

``program``  the program's side, which imports little: starts the engine and talks to it
``messages`` what the two say to each other, JSON lines over a socket pair
``process``  the engine's side: ``python -m tunnelkit.engine DESCRIPTOR``

The socket pair is what ties the engine to its program: only the program holds the other end (it is
not inherited by programs that it starts, and closed in its forks), so its end means the program's,
``kill -9`` included. Tokens go through it and nowhere else.
"""

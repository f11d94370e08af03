"""What the harness runs as processes of its own: an echo service, and loads that no tool fits.

Each prints its result as one line of JSON on standard output.
"""

"""tunnelkit measured beside the field, on one machine in one run: ``python -m benchmarks``."""

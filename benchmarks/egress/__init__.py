"""The egress proxy measured beside other proxies: ``python -m benchmarks.egress``."""

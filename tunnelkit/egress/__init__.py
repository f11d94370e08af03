"""Egress: a proxy whose connections leave from pinned addresses."""

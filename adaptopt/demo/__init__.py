"""The demonstration of ``python -m adaptopt``."""

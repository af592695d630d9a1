"""Proximal maps as values."""

"""Pools, volumes, and who uses a file."""

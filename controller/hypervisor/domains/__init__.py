"""Domains of a host: found, read, written to behind the guard."""

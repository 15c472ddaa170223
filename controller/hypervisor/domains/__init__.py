"""Domains of a host: find them, read them, write to them behind the ownership guard."""

"""Guests whose document is gone: what is done with them, when, and what is reported."""

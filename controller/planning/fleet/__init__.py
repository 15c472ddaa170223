"""Decisions about several guests at once."""

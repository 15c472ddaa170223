"""Domains that somebody else made: taken over as they are, and written down as documents."""

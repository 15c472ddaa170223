"""Desired x observed -> plan. Pure."""

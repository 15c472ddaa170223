"""Computes what a guest should have: its names and its domain."""

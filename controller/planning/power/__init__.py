"""Decides whether and when a guest is started, stopped, restarted or left alone (suspended)."""

"""Unattended installs: one build from its answer file to its base volume."""

"""Telemetry: metrics, logs, and what systemd is told."""

"""Prometheus metrics, logging and sd_notify."""

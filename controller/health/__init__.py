"""Health: probes, their scheduler, and when a check's result becomes a verdict."""

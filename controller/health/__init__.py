"""Health: probes, their scheduler, and the thresholds that turn results into a verdict."""

"""The inside of a guest: when to look and to apply, its services, the targets of its probes."""

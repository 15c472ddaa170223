"""The inside of a guest: when to look and to apply, its services, where its probes knock."""

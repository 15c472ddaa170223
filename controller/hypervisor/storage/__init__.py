"""Storage of a host: pools, volumes, and which domains use a file."""

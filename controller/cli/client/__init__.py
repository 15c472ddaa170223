"""The client of the daemon's API, and what commands need for it: options and names."""

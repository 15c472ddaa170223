"""A guest by the state of its domain: absent, running. They know all rooms of planning."""

"""Pure functions that make a plan from the desired and the observed state."""

"""Starting, stopping and suspending a guest: whether, when, and how often."""

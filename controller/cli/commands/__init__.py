"""What each command does. Loaded when it runs."""

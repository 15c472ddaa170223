"""The operator's commands. Modules are imported when a command runs, so that start is quick."""

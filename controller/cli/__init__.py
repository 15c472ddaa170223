"""The command line for operators. Modules are imported when a command runs, for a quick start."""

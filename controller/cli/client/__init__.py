"""The daemon's API as commands use it: options, names, requests."""

"""Starlette and uvicorn on loopback and a unix socket: metrics, health, JSON API, console."""

FORMAT_VERSION = 1
"""Of the JSON of the API and of ``-o json``; it grows when somebody who reads it would stumble."""

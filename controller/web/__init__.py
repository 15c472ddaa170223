"""HTTP (Starlette, uvicorn) on TCP and a unix socket: metrics, health, JSON API, console."""

FORMAT_VERSION = 1
"""Version of the JSON of the API and of ``-o json``; incremented by incompatible changes."""

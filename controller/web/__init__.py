"""Starlette and uvicorn on loopback and a unix socket: metrics, health, JSON API, console."""

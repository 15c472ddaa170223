"""Guestkeeper: a virtual machine and its services as one object."""

__version__ = "0.1.0"

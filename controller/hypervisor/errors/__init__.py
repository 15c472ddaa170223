"""Translates libvirt's errors to the daemon's errors. Makes no calls to a host."""

"""A host's libvirt connections: open, watch, reconnect; deadlines; events. No domain XML."""

"""Domain XML: rendered, and brought up to date in place. Pure: no libvirt, no I/O."""

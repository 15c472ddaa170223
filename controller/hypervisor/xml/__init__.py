"""Domain XML: rendered anew, or updated in place. Pure: no libvirt, no I/O."""

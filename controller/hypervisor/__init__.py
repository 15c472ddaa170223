"""Everything that speaks libvirt: connections, events, domain XML, storage, networks."""

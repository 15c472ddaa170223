"""All code that calls libvirt: connections, events, domain XML, storage, networks."""

"""The observed state: frozen views of libvirt's objects, guests' insides and probes. No I/O."""

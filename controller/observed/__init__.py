"""What is: frozen views of libvirt's objects, of the inside of a guest, of probes. No I/O."""

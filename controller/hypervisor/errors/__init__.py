"""What libvirt said, as one of the daemon's errors. Makes no calls."""

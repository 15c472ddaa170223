"""What the host lacks or has for somebody else: pools, networks, addresses."""

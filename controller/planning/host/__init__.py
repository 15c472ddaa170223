"""Problems with the host's resources: pools, networks, addresses that are missing or taken."""

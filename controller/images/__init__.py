"""Images on hosts: sources, unattended installs, base volumes and seeds."""

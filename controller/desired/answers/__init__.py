"""Answer files of unattended installs: made from templates, and checked."""

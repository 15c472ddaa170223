"""Input and output of a running guest: agent commands, consoles, the serial log."""

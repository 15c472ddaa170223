"""What goes in and out of a running guest: agent commands, consoles, the serial log."""

"""The inside of guests: the QEMU guest agent, the look and apply scripts, probes in the guest."""

"""What a guest should have, from its documents alone: names and the domain."""

"""Which volume belongs to what, and which may go. Deletes nothing."""

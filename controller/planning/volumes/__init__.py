"""Determines what each volume is for, and which may be deleted. Deletes nothing."""

"""Replaces a guest's system disk, and rolls back. Data disks are not touched."""

"""A new system disk for a guest, and the way back. The data disks are not touched here."""

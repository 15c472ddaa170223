"""Small ISO 9660 images, written and read: seeds, answer media."""

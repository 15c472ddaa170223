"""Files of the desired state: found, trusted, read. Their text is not understood here."""

"""Find, check and read the files of the desired state. Their text is not parsed here."""

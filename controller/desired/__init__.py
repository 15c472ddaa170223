"""What should be: documents, how they are read, and the last good state of the directory."""

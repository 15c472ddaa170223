"""The documents' fields: their bounds, defaults and change classes. Reads no files."""

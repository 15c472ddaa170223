"""A guest whose document is gone: what becomes of it, when, and what is told."""

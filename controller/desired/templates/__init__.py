"""Render file contents from templates: sandboxed, bounded and reproducible."""

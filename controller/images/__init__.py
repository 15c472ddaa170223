"""Image sources and what becomes of them: base volumes and seeds."""

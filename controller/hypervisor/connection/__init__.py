"""Connections of a host: opened, watched, lost; calls under deadlines; events. No domain XML."""

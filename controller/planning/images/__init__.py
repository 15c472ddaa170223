"""Decides the next action in the build of an image. Knows nothing about guests."""

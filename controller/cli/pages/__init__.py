"""Formats guests, images and volumes for people: rows of tables, sections of descriptions."""

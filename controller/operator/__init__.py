"""Operators' requests about guests, adoptions, images and volumes; no interface's own code."""

"""The documents of a directory over time: changed, broken, missing, resolved."""

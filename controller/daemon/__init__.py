"""The composition root: builds the other rooms and runs them. Nothing else wires things.

Nothing is imported here: ``python -m controller.daemon`` decides first what its libraries may load.
"""

"""The composition root: builds the parts of the other packages, wires them and runs them.

Nothing is imported here: ``__main__`` decides first which libraries may be loaded.
"""

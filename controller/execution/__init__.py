"""Executes the steps of plans: one function per step, and the only code with side effects."""

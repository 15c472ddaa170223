"""Compares the wanted with the observed state, and says what each change takes. When a change is
made is decided elsewhere.
"""

"""Plans for a guest by the state of its domain: absent or running. May import all of planning
except what is above it.
"""

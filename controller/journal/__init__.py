"""The journal: what happened, for people. History, never truth."""

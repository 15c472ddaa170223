"""The journal of events (SQLite): history for people; no decision is based on it."""

"""What differs between wanted and observed, and what a change takes. No time is decided here."""

"""What the build of an image needs next. Guests are not known here."""

"""Terminal output and questions, independent of what is shown."""

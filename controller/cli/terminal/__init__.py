"""Output and questions, whatever they are about."""

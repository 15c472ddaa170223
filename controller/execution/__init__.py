"""One function a step: the only code with side effects on the world."""

"""How guests, images and volumes look: lines of lists, sections of descriptions."""

"""From the text of a file to documents or problems, each with its line and remedy."""

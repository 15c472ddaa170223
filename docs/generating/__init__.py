"""One module a reference page: each gives the page's whole text, the same every time."""

"""Base volumes in pools: made, found again, deleted when nobody uses them."""

"""Foreign domains: taking them over as they are, and exporting them as documents."""

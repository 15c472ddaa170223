"""Contents from templates that cannot reach out, run away or guess."""

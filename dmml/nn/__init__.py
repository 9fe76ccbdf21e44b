"""Building blocks of the networks; they use neither Lightning nor files."""

"""Gene sets of the two subspaces."""

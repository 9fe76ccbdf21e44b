"""Pictures of whole slides at a coarse scale."""

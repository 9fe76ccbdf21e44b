"""Parts of a forward pass that teacher and student share."""

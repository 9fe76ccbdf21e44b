"""Loss terms, their weighting, and the outputs of a teacher that some of them need."""

"""Storage that fails: whether it does not answer, how often it is asked again, and when a run stops waiting for it."""

"""Checks of a cohort, its features and a checkpoint before anything expensive begins."""

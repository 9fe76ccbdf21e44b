"""Cohorts from the downloads of the GDC."""

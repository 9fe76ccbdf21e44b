"""Answers of a model on the slides of one patient, with pictures and a page."""

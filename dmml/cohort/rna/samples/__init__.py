"""Samples of RNA: their names, their tissue, and the patients whom they belong to."""

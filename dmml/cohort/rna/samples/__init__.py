"""Samples of RNA: their names, their tissue, and the patients to whom they belong."""

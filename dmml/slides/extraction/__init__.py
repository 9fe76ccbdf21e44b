"""Extraction of features from many slides into one store."""

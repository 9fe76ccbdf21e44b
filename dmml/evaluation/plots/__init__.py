"""Plots of results: their common style, and one module per kind of plot."""

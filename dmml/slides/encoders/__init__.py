"""Tile encoders: names, construction and weights."""

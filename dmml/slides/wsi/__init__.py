"""Whole-slide images as files: opening, pyramid levels, pixel size, and reading in µm."""

"""Readers of RNA file formats, one module per format."""

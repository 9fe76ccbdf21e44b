"""Reads RNA from AnnData files."""

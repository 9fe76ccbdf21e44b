"""Vectors of slides, one or several per slide, from tables and arrays."""

"""Vectors of slides, one or several each, from the tables and arrays in which they come."""

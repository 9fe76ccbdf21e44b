"""Shapes on slides in the GeoJSON that QuPath reads and writes."""

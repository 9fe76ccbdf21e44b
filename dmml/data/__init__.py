"""Datasets, collation into `Batch`, samplers and the data module."""

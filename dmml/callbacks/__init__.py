"""Callbacks; they know a model only through `dmml.types.HasSubspaces`."""

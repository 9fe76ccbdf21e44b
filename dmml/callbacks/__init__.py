"""Lightning callbacks; they access the parts of a model only through `dmml.types.HasSubspaces`."""

"""Import of tile features that other tools made."""

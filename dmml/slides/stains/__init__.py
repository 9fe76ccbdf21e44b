"""Stain normalisation: a slide's own stains, fitted once per slide, are replaced by those of a target."""

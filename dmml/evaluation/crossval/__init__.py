"""A finished cross-validation: its results, plots, sentences and report."""

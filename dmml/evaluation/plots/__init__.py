"""Plots of results: their common style, and one module per kind of plot. A plot of one's own is made of these names."""

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import new_figure

__all__ = ["Plot", "new_figure"]

"""Plots of curves with bands over decision thresholds."""

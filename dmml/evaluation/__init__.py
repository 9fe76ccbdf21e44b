"""Predictions → metrics with intervals, comparisons, calibration, plots, report."""

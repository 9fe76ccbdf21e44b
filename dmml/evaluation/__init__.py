"""Evaluate predictions: metrics with intervals, comparisons, calibration, plots and the report."""

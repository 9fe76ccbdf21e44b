"""Metrics and plots of predicted continuous values."""

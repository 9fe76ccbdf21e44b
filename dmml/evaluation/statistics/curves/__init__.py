"""Curves of weighted patients over decision thresholds: ROC, precision and recall, and net benefit."""

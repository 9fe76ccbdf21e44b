"""Statistics of predictions: calibration, censoring, weighted metrics, and tests of two samples."""

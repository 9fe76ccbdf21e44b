"""Nested cross-validation of networks and linear models."""

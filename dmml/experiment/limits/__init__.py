"""Fits what a checkpoint knows of the limits of its model."""

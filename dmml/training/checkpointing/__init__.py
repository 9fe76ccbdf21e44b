"""Checkpoints that are read without trusting them."""

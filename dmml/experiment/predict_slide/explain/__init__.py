"""Explains the answer on a patient's slides: maps tested by deletion, the deep part's gradients, sheets of tiles."""

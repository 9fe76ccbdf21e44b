"""Slides on object storage: found there, and downloaded one after the other ahead of the readers."""

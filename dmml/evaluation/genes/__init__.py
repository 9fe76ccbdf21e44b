"""Genes and programs of the tested patients, and how they go along with the prediction."""

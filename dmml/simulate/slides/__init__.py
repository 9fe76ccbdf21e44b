"""Simulated slides: tissue, nuclei, stain, artefacts and files."""

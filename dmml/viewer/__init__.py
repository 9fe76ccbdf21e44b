"""Serves a slide with what a model made of its tiles as a page on this machine: `dmml view`."""

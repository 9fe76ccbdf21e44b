"""Parts of the networks: no Lightning, no files."""

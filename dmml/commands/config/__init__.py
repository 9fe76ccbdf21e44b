"""A command's configuration: how it is read, checked, and its mistakes named."""

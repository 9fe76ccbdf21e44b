"""The model card of an exported student, and its table for TRIPOD+AI; nothing here needs torch."""

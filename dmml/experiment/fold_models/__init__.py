"""All models of a cross-validation used as one."""

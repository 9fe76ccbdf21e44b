"""Steps that combine several packages: results of a test, cross-validation, prediction from raw slides, the doctor."""

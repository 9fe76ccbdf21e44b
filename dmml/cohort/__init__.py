"""Who: patients, outcomes, covariates, splits, RNA tables and gene sets. Files in, tables out; no torch."""

"""Clinical tables: patients, slides, outcomes and covariates."""

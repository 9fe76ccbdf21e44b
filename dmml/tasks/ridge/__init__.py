"""Ridge regressions of each kind of endpoint, as cross-validations fit them to RNA and to covariates."""

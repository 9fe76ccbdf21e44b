"""Reads cohorts from files into tables: patients, outcomes, covariates, splits, RNA and gene sets. Free of torch."""

"""The RNA of a cohort as one table: genes, scale, samples and standardisation."""

"""`dmml submit`: runs extractions, fits and cross-validations as jobs of SLURM, or in parts on one machine."""

"""Commands that run as jobs of a cluster, through submitit."""

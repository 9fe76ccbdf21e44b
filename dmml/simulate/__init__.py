"""Cohorts whose truth is known: latent factors, RNA, outcomes, and slides or token features that follow them."""

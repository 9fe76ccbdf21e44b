"""Tile features on disk: the seam between pixels and learning."""

from dmml.store.feature_store import FORMAT, FeatureStore, SlideFeatures, is_store

__all__ = ["FORMAT", "FeatureStore", "SlideFeatures", "is_store"]

"""Tile features on disk: the seam between pixels and learning."""

from dmml.store.feature_store import FORMAT, FeatureStore
from dmml.store.root_group import is_store
from dmml.store.slide_features import SlideFeatures

__all__ = ["FORMAT", "FeatureStore", "SlideFeatures", "is_store"]

"""Stores of tile features on disk: the interface between feature extraction and model training."""

from dmml.store.feature_reader import FORMAT
from dmml.store.feature_store import FeatureStore
from dmml.store.root_group import is_store
from dmml.store.slide_features import SlideFeatures

__all__ = ["FORMAT", "FeatureStore", "SlideFeatures", "is_store"]

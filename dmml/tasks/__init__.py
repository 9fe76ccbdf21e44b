"""Prediction tasks: everything that depends on the endpoint."""

from dmml.tasks.base import Task
from dmml.tasks.classification import Classification
from dmml.tasks.regression import Regression
from dmml.tasks.survival import Survival

__all__ = ["Classification", "Regression", "Survival", "Task"]

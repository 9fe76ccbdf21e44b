"""What evaluation must know of an endpoint: its outcome, its metrics, and the sentences and plots about them."""

from dmml.evaluation.endpoints.base import Context, Endpoint

__all__ = ["Context", "Endpoint"]

"""Turns a batch's bag of one magnification into one that every branch of a model can read."""

from __future__ import annotations

import torch

from dmml.types import Bag, Batch


def bag_of(batch: Batch, magnification: int, n_features: int) -> Bag:
    """Return the batch's bag with at least one (padding) token, so that every branch runs even if the bag is missing.

    Args:
        batch: Batch that may lack the magnification.
        magnification: Key of the bag.
        n_features: D that the model was built for; 0 for a model without tissue.

    Raises:
        ValueError: The features do not have the width that the model was built for.
    """
    bag = batch.bags.get(magnification)
    if bag is None or bag.features.shape[1] == 0:
        size, device = len(batch.patient_id), batch.has_expression.device
        index = torch.zeros(size, 1, dtype=torch.long, device=device)
        nowhere = torch.zeros(size, 1, 2, device=device)
        return Bag(torch.zeros(size, 1, n_features, device=device), nowhere, index.bool(), index, n_slides=1)
    if n_features and bag.features.shape[2] != n_features:
        raise ValueError(
            f"features at {magnification}x are {bag.features.shape[2]} wide, the model was built for {n_features}; "
            "use the encoder that it was trained with"
        )
    return Bag(bag.features, bag.position, bag.mask, bag.slide.masked_fill(~bag.mask, 0), bag.n_slides)

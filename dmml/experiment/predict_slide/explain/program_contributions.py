"""The contribution of each predicted program to an answer, where tissue enters the deep part as programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

ProgramContributions = dict[tuple[int, str], dict[str, float]]
"""{(magnification, subspace): {program: contribution}}"""


@torch.inference_mode()
def program_contributions(model: SubspaceNetwork, batch: Batch, output: SubspaceOutput) -> ProgramContributions:
    """Divide the deep part of the subspaces among programs, exactly.

    Programs enter the embedding by a linear layer without bias, and the embedding the logits by another. So program p of
    subspace s adds share · score_p · (W_s e_p) in the direction of the answer, divided by the number of magnifications, to
    the mean over the magnifications of the subspace's logits. A program is here the score that enters the embedding.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.

    Returns:
        {} if the deep part does not count, or if tissue does not enter it as programs.
    """
    share = float(model._share("deep_share"))
    layers: dict[str, nn.Module] = dict(getattr(model, "embed", {}).items())
    present = [m for m in model.magnifications if m in batch.bags and bool(batch.bags[m].mask.any())]
    slots: dict[tuple[int, str], nn.Linear] = {}
    for m in present:
        for s in SUBSPACES:
            if isinstance(layer := layers.get(f"{m}x_{s}"), nn.Linear):
                slots[m, s] = layer
    if not share or not slots:
        return {}
    scores = _inputs(model, batch, slots)
    direction = model.task.direction(output.logits)[0]
    contributions = {}
    for (m, s), layer in slots.items():
        head = model.heads[f"{m}x"]
        to_logit = direction @ head.linear.weight[:, head.columns[s]] @ layer.weight  # (P,)
        values = share / len(present) * scores[m, s][0] * to_logit
        contributions[m, s] = dict(zip(model.scores.names[s], values.tolist(), strict=True))
    return contributions


def _inputs(
    model: SubspaceNetwork, batch: Batch, layers: dict[tuple[int, str], nn.Linear]
) -> dict[tuple[int, str], Tensor]:
    """Run the model and return the input of some of its layers."""
    inputs: dict[tuple[int, str], Tensor] = {}

    def keeps(key: tuple[int, str]) -> Any:  # noqa: ANN401 - the type of a hook
        return lambda _, arguments: inputs.update({key: arguments[0]})

    handles = [layer.register_forward_pre_hook(keeps(key)) for key, layer in layers.items()]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def program_record(contributions: ProgramContributions) -> dict[str, dict[str, float]]:
    """Return {"10x_tumor": {program: contribution}} with the largest absolute contributions first."""
    return {
        f"{m}x_{s}": dict(sorted(values.items(), key=lambda item: -abs(item[1])))
        for (m, s), values in contributions.items()
    }

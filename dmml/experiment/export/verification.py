"""Compares the exported files with PyTorch on simulated patients of many sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.errors import InputError
from dmml.experiment.export.student_graph import StudentGraph, plain_batch

TOLERANCE = 1e-4
"""Largest difference of any output from PyTorch's with which files are written"""
SIZES = (1, 65, 100, 1_000, 5_000, 20_000)
"""Numbers of tokens at the finest magnification; coarser ones have a quarter of the next finer"""
TILE_UM = 112.0
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A simulated patient.

    Attributes:
        n_tokens: Number of tokens at the finest magnification.
        n_slides: Number of slides over which they are distributed.
        empty: Magnification without tokens; None = all have some.
        has_copies: Whether half of the tokens are copies of others, at the same position.
    """

    n_tokens: int
    n_slides: int = 1
    empty: int | None = None
    has_copies: bool = False

    def text(self) -> str:
        """Describe the patient in a few words."""
        notes = [f"{self.n_slides} slides"] if self.n_slides > 1 else []
        notes += ["none" + f" at {self.empty}x"] if self.empty is not None else []
        notes += ["half of them copies"] if self.has_copies else []
        count = "1 token" if self.n_tokens == 1 else f"{self.n_tokens:,} tokens"
        return count + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True)
class Agreement:
    """How closely the files agree with PyTorch for one patient."""

    case: Case
    onnx: float
    """Largest absolute difference of any output of ONNX Runtime"""
    onnx_output: str
    """The output that differs most"""
    torch_export: float
    """Largest absolute difference of any output of the `torch.export` program"""

    def plain(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        case = {name: value for name, value in asdict(self.case).items() if value not in (None, False)}
        return {**case, "onnx": self.onnx, "onnx_output": self.onnx_output, "torch_export": self.torch_export}


def cases(magnifications: Sequence[int]) -> list[Case]:
    """Return the patients on whom an export is verified: all sizes, several slides, copies, and empty magnifications."""
    more = [Case(1_000, n_slides=3), Case(300, has_copies=True)]
    more += [Case(200, empty=m) for m in magnifications] if len(magnifications) > 1 else []
    return [*map(Case, SIZES), *more]


def simulate_inputs(
    case: Case, magnifications: Sequence[int], statistics: Mapping[int, tuple[Tensor, Tensor]], seed: int = 0
) -> tuple[Tensor, ...]:
    """Simulate a patient's inputs: kinds of tissue in patches, with the mean and the spread of the training features.

    Args:
        case: Size of the patient.
        magnifications: Magnifications of the model, ascending.
        statistics: {m: (mean (D,), standard deviation (D,))} of the training features.
        seed: Seed of the patient.
    """
    generator = torch.Generator().manual_seed(seed + case.n_tokens)
    inputs = [torch.arange(case.n_slides)]
    finest = len(magnifications) - 1
    for i, m in enumerate(magnifications):
        n = 0 if m == case.empty else max(1, case.n_tokens // 4 ** (finest - i))
        mean, scale = statistics[m]
        index = torch.arange(n)
        side = max(1, int(n**0.5))
        xy = torch.stack([index % side, index // side], -1)  # (N, 2)
        kinds = torch.randn(5, len(mean), generator=generator)
        kind = (xy[:, 0] // 7 + 3 * (xy[:, 1] // 7)) % 5
        features = mean + scale * (0.7 * kinds[kind] + 0.7 * torch.randn(n, len(mean), generator=generator))
        position = (xy + 0.5) * TILE_UM * 2 ** (finest - i)
        slide = index * case.n_slides // max(1, n)
        if case.has_copies:
            features, position, slide = (x[index // 2 * 2] for x in (features, position, slide))
        inputs += [features.float(), position.float(), slide]
    return tuple(inputs)


def reference_outputs(graph: StudentGraph, inputs: Sequence[Tensor]) -> Arrays:
    """Compute all outputs by the network itself, with the bags of `dmml predict`. → {name: array}."""
    lengths = {m: len(inputs[1 + 3 * i]) for i, m in enumerate(graph.magnifications)}
    with torch.no_grad():
        output = graph.network(plain_batch(graph.magnifications, *inputs))
    return {each.name: value.numpy() for each, value in graph.named_outputs(output, lengths)}


def verify(
    graph: StudentGraph,
    statistics: Mapping[int, tuple[Tensor, Tensor]],
    run_onnx: Callable[[Sequence[Tensor]], Arrays],
    run_program: Callable[[Sequence[Tensor]], Arrays],
) -> list[Agreement]:
    """Compare both files with PyTorch for all `cases`.

    Args:
        graph: The student.
        statistics: See `simulate_inputs`.
        run_onnx: Runs the ONNX file on inputs.
        run_program: Runs the `torch.export` program on inputs.

    Raises:
        InputError: An output differs by more than `TOLERANCE`; the message names the output and the patient.
    """
    agreements = []
    for case in cases(graph.magnifications):
        inputs = simulate_inputs(case, graph.magnifications, statistics)
        reference = reference_outputs(graph, inputs)
        onnx, output = largest_difference(run_onnx(inputs), reference)
        torch_export, other = largest_difference(run_program(inputs), reference)
        for name, difference, worst in (("ONNX", onnx, output), ("torch.export", torch_export, other)):
            if not difference <= TOLERANCE:
                raise InputError(
                    f"the {name} file differs from PyTorch by {difference:.1e} in {worst} for {case.text()}, more than "
                    f"{TOLERANCE:g}; nothing was written; use `dmml predict` for this model"
                )
        agreements.append(Agreement(case, onnx, output, torch_export))
    return agreements


def largest_difference(values: Arrays, reference: Arrays) -> tuple[float, str]:
    """Return the largest absolute difference of any output, and its name; infinity for another shape or a NaN.

    NaN in both is no difference: survival is undefined beyond the last day.
    """
    differences = {name: _difference(values[name], reference[name]) for name in reference}
    worst = max(differences, key=differences.__getitem__)
    return differences[worst], worst


def _difference(value: NDArray[Any], reference: NDArray[Any]) -> float:
    if value.shape != reference.shape or not np.array_equal(np.isnan(value), np.isnan(reference)):
        return float("inf")
    difference = np.abs(value.astype(np.float64) - reference.astype(np.float64))
    return float(np.nanmax(difference, initial=0.0)) if difference.size else 0.0

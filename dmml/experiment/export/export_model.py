"""Writes the folder of an export: `model.onnx`, `model.pt2`, the runner, the model card, TRIPOD+AI and `export.json`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmml._version import __version__
from dmml.atomic_files import atomic_folder, write_json
from dmml.errors import InputError, reason_of
from dmml.experiment.export.card.model_card import model_card
from dmml.experiment.export.card.model_record import ModelRecord, read_model_record
from dmml.experiment.export.card.tripod import tripod_table
from dmml.experiment.export.checks import RECORD, check_out, not_a_student
from dmml.experiment.export.conversion import Interface, save_program, to_onnx, trace
from dmml.experiment.export.names import describe_inputs
from dmml.experiment.export.student_graph import StudentGraph, plain_batch
from dmml.experiment.export.verification import TOLERANCE, Agreement, Arrays, Case, simulate_inputs, verify
from dmml.experiment.load_model import CheckpointModel, load_model
from dmml.experiment.run_folder import now
from dmml.networks.student_network import StudentNetwork
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.merger import MAX_EXPORTED_TOKENS
from dmml.store.encoder_identity import complete_identity
from dmml.store.root_attributes import VECTORS

_LOG = logging.getLogger(__name__)
FORMAT = "dmml-student-1"
"""Layout of inputs, outputs and metadata of an exported student, which the runner reads"""
ONNX, PROGRAM, RUNNER, CARD, TRIPOD = "model.onnx", "model.pt2", "run_model.py", "model_card.md", "tripod_ai.md"
_EXAMPLE = Case(500, n_slides=3)
"""Size of the patient with which a student is traced"""


@dataclass(frozen=True)
class Export:
    """A written export.

    Attributes:
        folder: The folder.
        agreements: How closely the files agree with PyTorch, for each simulated patient.
    """

    folder: Path
    agreements: list[Agreement]


def export_model(ckpt_path: str | Path, out: Path, overwrite: bool = False) -> Export:
    """Export a student, verify the files, and write the folder completely or not at all.

    Args:
        ckpt_path: Checkpoint of a student.
        out: The folder to write.
        overwrite: Whether an existing folder may be replaced.

    Raises:
        InputError: The checkpoint is not that of a student that can be exported, `out` exists, or a file differs from
            PyTorch by more than the tolerance.
    """
    check_out(out, overwrite)
    model = load_model(ckpt_path)
    network = check_network(model)
    record = read_model_record(model)
    graph = StudentGraph(network, _fill_values(model)).eval()
    statistics = feature_statistics(model)
    example = simulate_inputs(_EXAMPLE, network.magnifications, statistics)
    interface = _interface(model, graph, example)
    try:
        _LOG.info("%s: tracing the student", ckpt_path)
        program = trace(graph, example)
        _LOG.info("%s: converting it to ONNX", ckpt_path)
        onnx = to_onnx(program, interface).SerializeToString()
    except Exception as error:  # exporters raise exceptions of many types of their own
        raise InputError(
            f"{ckpt_path}: the student cannot be exported ({reason_of(error)[:200]}); use `dmml predict` for this model"
        ) from error
    _LOG.info("%s: comparing both files with PyTorch", ckpt_path)
    agreements = verify(graph, statistics, onnx_runner(onnx, interface), program_runner(program, interface))
    files: dict[str, bytes] = {ONNX: onnx, PROGRAM: save_program(program, interface)}
    _write(out, files, model, record, interface, agreements)
    return Export(out, agreements)


def check_network(model: CheckpointModel) -> StudentNetwork:
    """Return the network of a student.

    Raises:
        InputError: The model is no student, or its attention is quadratic in the number of tokens.
    """
    network = model.module
    if not isinstance(network, StudentNetwork):
        raise not_a_student(model.path)
    aggregators = network.aggregator.values()
    if any(isinstance(each, TokenAggregator) and each.n_merged is None for each in aggregators):
        raise InputError(
            f"{model.path}: the student merges no tokens (n_merged: null), so a graph would need memory for every pair of tiles; "
            "fit one with n_merged: 8, or use `dmml predict`"
        )
    return network


def feature_statistics(model: CheckpointModel) -> dict[int, tuple[Tensor, Tensor]]:
    """Return {m: (mean (D,), standard deviation (D,))} of the training features; 0 and 1 if the checkpoint has none."""
    fitted, width = model.module.fitted.get("feature_statistics") or {}, model.module.n_features or 0
    statistics = {m: (torch.zeros(width), torch.ones(width)) for m in model.module.magnifications}
    for m, values in fitted.items():
        statistics[int(m)] = torch.tensor(values["mean"]), torch.tensor(values["scale"])
    return statistics


def _fill_values(model: CheckpointModel) -> dict[int, Tensor]:
    """Return the values for NaN of a student that reads vectors, in which values may be missing; {} for tiles."""
    if model.encoder.get("content") != VECTORS:
        return {}
    return {m: mean for m, (mean, _) in feature_statistics(model).items()}


def _interface(model: CheckpointModel, graph: StudentGraph, example: Sequence[Tensor]) -> Interface:
    network = graph.network
    lengths = {m: len(example[1 + 3 * i]) for i, m in enumerate(network.magnifications)}
    with torch.no_grad():
        output = network(plain_batch(network.magnifications, *example))
    outputs = [each for each, _ in graph.named_outputs(output, lengths)]
    mpp = {m: 10 / m for m in network.magnifications}
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "dmml_version": __version__,
        "intended_use": "research; not a medical device",
        "checkpoint": {key: value for key, value in model.identity.items() if key != "checkpoint"},
        "task": network.task.context(),
        "columns": [each.name for each in outputs if each.column],
        "magnifications": {str(m): value for m, value in mpp.items()},
        "n_features": network.n_features,
        "encoder": complete_identity(model.encoder),
        "extraction": network.fitted.get("extraction") or {},
        "tile_px": network.fitted.get("tile_px"),
        "programs": network.scores.names,
        "max_tokens": MAX_EXPORTED_TOKENS,
        "median_risk": network.fitted.get("median_risk"),
    }
    inputs = describe_inputs(network.magnifications, mpp, network.n_features or 0)
    return Interface(inputs, outputs, metadata)


def onnx_runner(model: bytes, interface: Interface) -> Callable[[Sequence[Tensor]], Arrays]:
    """Return a function that runs an ONNX file on inputs in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    needed = {each.name for each in session.get_inputs()}

    def run(inputs: Sequence[Tensor]) -> Arrays:
        named = {each.name: value.numpy() for each, value in zip(interface.inputs, inputs, strict=True)}
        values = session.run(None, {name: value for name, value in named.items() if name in needed})
        return {each.name: value for each, value in zip(session.get_outputs(), values, strict=True)}

    return run


def program_runner(program: torch.export.ExportedProgram, interface: Interface) -> Callable[[Sequence[Tensor]], Arrays]:
    """Return a function that runs a `torch.export` program on inputs in order."""
    module = program.module()

    def run(inputs: Sequence[Tensor]) -> Arrays:
        with torch.no_grad():
            values = module(*inputs)
        return {each.name: value.numpy() for each, value in zip(interface.outputs, values, strict=True)}

    return run


def _write(
    out: Path,
    files: Mapping[str, bytes],
    model: CheckpointModel,
    record: ModelRecord,
    interface: Interface,
    agreements: Sequence[Agreement],
) -> None:
    """Write the folder completely or not at all."""
    with atomic_folder(out) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        shutil.copyfile(Path(__file__).with_name(RUNNER), partial / RUNNER)
        (partial / CARD).write_text(model_card(record, interface, agreements), encoding="utf-8")
        (partial / TRIPOD).write_text(tripod_table(record), encoding="utf-8")
        write_json(partial / RECORD, _record(model, interface, agreements))


def _record(model: CheckpointModel, interface: Interface, agreements: Sequence[Agreement]) -> dict[str, Any]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
    return {
        "created": now(),
        **model.identity,
        "versions": {"dmml": __version__, **{name: version(name) for name in packages}},
        "tolerance": TOLERANCE,
        "verified": [each.plain() for each in agreements],
        "largest_difference": {
            "onnx": max(each.onnx for each in agreements),
            "torch_export": max(each.torch_export for each in agreements),
        },
        "inputs": {each.name: each.text for each in interface.inputs},
        "outputs": {each.name: each.text for each in interface.outputs},
    }

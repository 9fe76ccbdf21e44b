"""Converts a student to `torch.export` and ONNX; both are verified afterwards (`verification.py`)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dmml.experiment.export.names import Described
from dmml.experiment.export.student_graph import StudentGraph
from dmml.slides.encoders.graph_export import quiet_exporter

if TYPE_CHECKING:
    import onnx

METADATA_FILE = "dmml.json"
"""Name under which a `.pt2` file holds the metadata that the ONNX file has as `metadata_props`"""


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a graph, in order, and what else belongs into the file."""

    inputs: Sequence[Described]
    outputs: Sequence[Described]
    metadata: Mapping[str, Any]
    """{key: plain value}; values other than text are stored as JSON"""

    def metadata_texts(self) -> dict[str, str]:
        """Return the metadata as text."""
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.metadata.items()}


def trace(graph: StudentGraph, example: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """Trace a student with dynamic numbers of tokens and slides.

    Args:
        graph: The student.
        example: Inputs of a patient with several slides and some hundred tokens.
    """
    dynamic = {0: torch.export.Dim.DYNAMIC}
    shapes = {"slides": dynamic, "inputs": tuple(dynamic for _ in example[1:])}
    with quiet_exporter(), torch.no_grad():
        return torch.export.export(
            graph, tuple(example), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )


def to_onnx(program: torch.export.ExportedProgram, interface: Interface) -> onnx.ModelProto:
    """Convert a traced student to ONNX, with all explanations in the file.

    Raises:
        RuntimeError: The exporter gave nothing.
    """
    with quiet_exporter(), torch.no_grad():
        converted = torch.onnx.export(
            program,
            input_names=[each.name for each in interface.inputs],
            output_names=[each.name for each in interface.outputs],
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort()},
            dynamo=True,
            optimize=False,  # takes longer than everything else together, and ONNX Runtime optimises what it loads
            verbose=False,
        )
    if converted is None:
        raise RuntimeError("the exporter gave no program")
    model = converted.model_proto
    _explain(model, interface)
    return model


def _stable_sort() -> Callable[..., Any]:
    """Return the translation of a stable sort, which the exporter lacks: TopK prefers the lower index among equals."""
    from onnxscript import opset20 as op

    def stable_sort(self: Any, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:  # noqa: ANN401
        axis = dim if dim >= 0 else dim + len(self.shape)
        size = op.Shape(self, start=axis, end=axis + 1)
        return op.TopK(self, size, axis=axis, largest=int(descending), sorted=1)

    return stable_sort


def _explain(model: onnx.ModelProto, interface: Interface) -> None:
    """Write names, units and provenance into the file."""
    texts = {each.name: each.text for each in (*interface.inputs, *interface.outputs)}
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = texts[value.name]
    del model.metadata_props[:]  # those of the exporter name paths of this machine
    for key, text in interface.metadata_texts().items():
        model.metadata_props.add(key=key, value=text)
    model.producer_name = "dmml"
    model.doc_string = "\n".join(f"{each.name}: {each.text}" for each in (*interface.inputs, *interface.outputs))
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def save_program(program: torch.export.ExportedProgram, interface: Interface) -> bytes:
    """Serialise a traced student, with the explanations in the extra file `METADATA_FILE`."""
    names = {kind: {x.name: x.text for x in getattr(interface, kind)} for kind in ("inputs", "outputs")}
    content = io.BytesIO()
    extra = {METADATA_FILE: json.dumps({**names, **interface.metadata}, indent=2)}
    with quiet_exporter():
        torch.export.save(program, content, extra_files=extra)
    return content.getvalue()

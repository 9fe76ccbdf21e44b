"""Exports an encoder as an ONNX graph that includes its preprocessing, and compares the graph with PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dmml.errors import reason_of
from dmml.slides.encoders.agreement import compare, probe_tiles
from dmml.slides.encoders.graph_cache import GraphCache, GraphRecord
from dmml.slides.encoders.onnx_encoder import INPUT, OUTPUT, OnnxEncoder
from dmml.slides.encoders.torch_encoder import network_input, scale_and_shift

if TYPE_CHECKING:
    import torch

    from dmml.slides.encoders.torch_encoder import TorchEncoder

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 1_800_000_000
"""Largest size of all tensors; the format keeps no more than 2 GiB in a file"""


def export_graph(encoder: TorchEncoder, cache: GraphCache) -> GraphRecord:
    """Export an encoder, compare it with PyTorch on probe tiles, and write graph and record to the cache.

    A network that cannot be exported, or whose graph does not agree, gets a record with the reason and without a graph,
    so that it need not be tried again every time.

    Args:
        encoder: The encoder in PyTorch, on a CPU.
        cache: Where the graph is kept.

    Raises:
        OSError: The disk is full, or the cache cannot be written.
    """
    record = GraphRecord(encoder.identity, "", None, tile_px=encoder.tile_px)
    graph = None
    try:
        size = sum(tensor.numel() * tensor.element_size() for tensor in encoder.model.state_dict().values())
        if size > _MAX_BYTES:
            record.problem = f"{size / 1e9:.1f} GB of weights are more than one ONNX file can hold"
        else:
            _LOG.info("%s: exporting it for ONNX Runtime, which is done once per encoder", encoder.name)
            graph = _exported(encoder)
            tiles = probe_tiles(encoder.tile_px)
            graph_encoder = OnnxEncoder(encoder.identity, graph, tile_px=encoder.tile_px)
            record.agreement = compare(graph_encoder(tiles), encoder(tiles))
            if not record.agreement.suffices:
                record.problem = f"the graph of {encoder.name} does not agree with PyTorch: {record.agreement}"
    except Exception as error:  # exporter and runtime raise exceptions of many types of their own
        record.problem = f"{encoder.name} cannot be exported ({reason_of(error)[:160]})"
    cache.write(record, None if record.problem else graph)
    return record


def _exported(encoder: TorchEncoder) -> bytes:
    import torch

    module = _with_preprocessing(encoder)
    pixels = torch.zeros(2, encoder.tile_px, encoder.tile_px, 3, dtype=torch.uint8)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (pixels,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no program")
    return program.model_proto.SerializeToString()


def _with_preprocessing(encoder: TorchEncoder) -> torch.nn.Module:
    """Return a module from tiles (n, tile_px, tile_px, 3) uint8 to features (n, D) float32."""
    import torch

    size = int(encoder.preprocessing["size"])

    class WithPreprocessing(torch.nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = encoder.model
            scale, shift = scale_and_shift(encoder.preprocessing)
            self.register_buffer("scale", scale)
            self.register_buffer("shift", shift)

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.network(network_input(tiles, self.scale, self.shift, size))
            return features.float()

    return WithPreprocessing().eval()


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hide the exporter's remarks, which no user can act on; a wrong graph fails the comparison."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""Encoders × backends: tiles per second on the same threads, and how well the features agree with PyTorch.

Every backend gets the same tiles in memory, 8 per thread and call, in turn; the fastest of the rounds counts, since other
processes only slow one down, and ratios are of one run. `torch` is what dmml does without ONNX Runtime: channels last, in
batches. `onnxruntime` is dmml's, one tile per call and thread. `torch compiled` needs a C++ compiler, and `openvino` its
package; neither is a backend of dmml, and the table says whether one should be. OpenVINO reads the same graph, with one
stream per thread. Except for the default encoder, weights are random, which changes no speed.

    python benchmarks/encoder_backends.py [--encoders NAME …] [--backends NAME …] [--threads 1 2] [--rounds 4] [--out docs/results]

With --out, encoders that are left out keep the results of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from other_load import OtherLoad

ENCODERS = ("tf_efficientnet_lite0", "resnet50", "convnext_tiny", "vit_small_patch16_224", "vit_base_patch16_224")
BACKENDS = ("torch", "torch compiled", "onnxruntime", "openvino")


class OpenVino:
    """The exported graph in OpenVINO: `threads` tiles at the same time, each on one thread."""

    def __init__(self, graph: bytes, threads: int):
        import openvino

        core = openvino.Core()
        model = core.read_model(graph)
        model.reshape([1, 224, 224, 3])
        properties = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._requests = openvino.AsyncInferQueue(core.compile_model(model, "CPU", properties), threads)
        self._features: dict[int, np.ndarray] = {}
        self._requests.set_callback(self._keep)

    def _keep(self, request, row: int) -> None:
        self._features[row] = request.get_output_tensor().data.copy()

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """(n, 224, 224, 3) uint8 → (n, D) float32."""
        for row in range(len(tiles)):
            self._requests.start_async({0: tiles[row : row + 1]}, row)
        self._requests.wait_all()
        return np.concatenate([self._features[row] for row in range(len(tiles))])


def network_of(name: str):
    """The PyTorch encoder: the default one with its packaged weights, any other of timm's with random weights."""
    import timm
    import torch

    from dmml.slides.encoders.build import load_encoder
    from dmml.slides.encoders.torch_encoder import TorchEncoder

    if name == ENCODERS[0]:
        return load_encoder(device="cpu", backend="torch")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0)
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 224}
    return TorchEncoder(f"{name}, random weights", model, preprocessing, device="cpu")


def graph_of(encoder) -> bytes:
    """The exported graph of an encoder, from dmml's cache."""
    from dmml.slides.encoders.graph_cache import GraphCache
    from dmml.slides.encoders.graph_export import export_graph

    cache = GraphCache()
    record = cache.record(encoder.identity)
    if record is None or record.problem or (graph := cache.graph(record)) is None:
        record = export_graph(encoder, cache)
        graph = cache.graph(record)
    if record.problem or graph is None:
        raise SystemExit(f"{encoder.name}: {record.problem}")
    return graph


def candidates(encoder, backends: list[str], threads: int) -> dict:
    """{backend: function from tiles to features}; backends that are not installed are left out."""
    import torch

    from dmml.slides.encoders.onnx_encoder import OnnxEncoder
    from dmml.slides.encoders.torch_encoder import TorchEncoder

    torch.set_num_threads(threads)
    encoder.batch_size = 8 * threads
    encoders: dict = {"torch": encoder}
    if "torch compiled" in backends:
        encoders["torch compiled"] = TorchEncoder(
            encoder.name, encoder.model, encoder.preprocessing, device="cpu", compiled=True
        )
    if "onnxruntime" in backends:
        encoders["onnxruntime"] = OnnxEncoder(encoder.identity, graph_of(encoder), threads)
    if "openvino" in backends and find_spec("openvino") is not None:
        encoders["openvino"] = OpenVino(graph_of(encoder), threads)
    return encoders


def measure(name: str, backends: list[str], threads: int, rounds: int) -> list[dict]:
    """One row per backend."""
    from dmml.slides.encoders.agreement import compare, probe_tiles

    encoder = network_of(name)
    encoders = candidates(encoder, backends, threads)
    tiles = np.resize(probe_tiles(), (8 * threads, 224, 224, 3))
    features = {backend: each(tiles) for backend, each in encoders.items()}  # which also compiles
    seconds: dict[str, list[float]] = {backend: [] for backend in encoders}
    with OtherLoad() as other:
        for _ in range(rounds):
            for backend, each in encoders.items():
                start = time.perf_counter()
                each(tiles)
                seconds[backend].append(time.perf_counter() - start)
    rows = []
    for backend, durations in seconds.items():
        agreement = compare(features[backend], features["torch"])
        rows.append(
            {
                "encoder": name,
                "backend": backend,
                "threads": threads,
                "tiles_per_second": len(tiles) / min(durations),
                "ratio": min(seconds["torch"]) / min(durations),
                **({} if backend == "torch" else agreement.plain()),
                "others": other.cores,
            }
        )
        print(rows[-1], flush=True)
    return rows


def page(rows: list[dict]) -> str:
    """The table of all encoders and backends."""
    lines = [
        "# Encoders and the libraries that run them",
        "",
        "`python benchmarks/encoder_backends.py --out docs/results`: tiles per second with tiles in memory, the fastest of "
        "the rounds, and in brackets the ratio to PyTorch in the same run. Rates differ between machines; the ratios "
        f"count. This one has {os.cpu_count()} cores. Others: number of cores that other processes used meanwhile. "
        "If that is much of a core, ratios with several threads favour ONNX Runtime and OpenVINO, "
        "because PyTorch's threads wait for each other after every layer.",
        "",
        "| encoder | threads | " + " | ".join(BACKENDS) + " | others |",
        "|---|---|" + "---|" * (len(BACKENDS) + 1),
    ]
    by_key = {(row["encoder"], row["threads"], row["backend"]): row for row in rows}
    for encoder, threads in dict.fromkeys((row["encoder"], row["threads"]) for row in rows):
        cells, others = [], 0.0
        for backend in BACKENDS:
            row = by_key.get((encoder, threads, backend))
            if row is None:
                cells.append("")
                continue
            others = max(others, row["others"])
            ratio = "" if backend == "torch" else f" ({row['ratio']:.2f})"
            cells.append(f"{row['tiles_per_second']:.1f}{ratio}")
        lines.append(f"| {encoder} | {threads} | {' | '.join(cells)} | {others:.2f} |")
    lines += [
        "",
        "## Agreement with PyTorch",
        "",
        "On eight probe tiles (stained patches of several sizes, glass, noise): the smallest cosine between the features "
        "of a tile, and the largest difference as a fraction of the largest feature.",
        "",
        "| encoder | backend | smallest cosine | largest relative error |",
        "|---|---|---|---|",
    ]
    worst: dict[tuple[str, str], dict] = {}
    for row in rows:
        key = (row["encoder"], row["backend"])
        if "cosine" in row and (key not in worst or row["cosine"] < worst[key]["cosine"]):
            worst[key] = row
    for (encoder, backend), row in worst.items():
        lines.append(f"| {encoder} | {backend} | {row['cosine']:.7f} | {row['relative_error']:.1e} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), metavar="NAME")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict] = []
    if args.out and (args.out / "encoder_backends.json").is_file():
        rows = json.loads((args.out / "encoder_backends.json").read_text())
    for name in args.encoders:
        for threads in args.threads:
            measured = measure(name, args.backends, threads, args.rounds)
            keys = {(row["encoder"], row["threads"]) for row in measured}
            rows = [row for row in rows if (row["encoder"], row["threads"]) not in keys] + measured
            order = {encoder: i for i, encoder in enumerate(ENCODERS)}
            rows.sort(key=lambda row: (order.get(row["encoder"], len(order)), row["threads"]))
            if args.out:
                (args.out / "encoder_backends.json").write_text(json.dumps(rows, indent=1) + "\n")
                (args.out / "encoder_backends.md").write_text(page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()

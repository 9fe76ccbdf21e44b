"""Two exported students: of survival with a backbone at two magnifications, of classes without one at a single one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_students import DIM, ENCODER, student_checkpoint

from dmml.__main__ import main
from dmml.experiment.load_model import load_model
from dmml.store import FeatureStore, SlideFeatures


@dataclass(frozen=True)
class Exported:
    """A checkpoint and its export."""

    ckpt: Path
    folder: Path

    @cached_property
    def network(self):
        return load_model(self.ckpt).module

    @cached_property
    def graph(self) -> onnx.ModelProto:
        return onnx.load(self.folder / "model.onnx")


def exported(root: Path, **student) -> Exported:
    ckpt = student_checkpoint(root / "run" / "checkpoints" / "best.ckpt", **student)
    assert main(["export", str(ckpt), str(root / "out")]) == 0
    return Exported(ckpt, root / "out")


@pytest.fixture(scope="session")
def survival(tmp_path_factory) -> Exported:
    return exported(tmp_path_factory.mktemp("survival"))


@pytest.fixture(scope="session")
def classes(tmp_path_factory) -> Exported:
    return exported(tmp_path_factory.mktemp("classes"), kind="classification", with_backbone=False, magnifications=[20])


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """Slides of the encoder of the students: `both`, `fine` without tiles at 10x, `large`, and `bare` without tiles."""
    path = tmp_path_factory.mktemp("store") / "features.zarr"
    store = FeatureStore.create(path, ENCODER, {10: 1.0, 20: 0.5})
    rng = np.random.default_rng(0)
    for slide, sizes in {"both": {10: 9, 20: 31}, "fine": {20: 80}, "large": {10: 300, 20: 1200}, "bare": {}}.items():
        bags = {}
        for m, n in sizes.items():
            features = rng.normal(0.1, 1.5, (n, DIM)).astype(np.float16)
            position = (np.stack([np.arange(n) % 40, np.arange(n) // 40], 1) + 0.5).astype(np.float32) * 2240 / m
            bags[m] = SlideFeatures(features, position, np.full(n, -1, np.int32) if m == 20 and 10 in sizes else None)
        store.write(slide, bags, {"source": f"{slide}.svs", "mpp": 0.5})
    return path

"""The files and folders that the documentation's commands name, small, so that the commands can be run as printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml
from doc_blocks import REPOSITORY, block_with
from drawn_slides import write_slide
from PIL import Image
from stained_pictures import paint_stained
from star_counts_files import ROWS, star

from dmml.__main__ import main
from dmml.store import FeatureStore

SURVIVAL = {"time": "os_days", "event": "os_event", "unit": "days"}
TISSUE = (112, 112, 1456, 1120)
"""Left, top, width and height of the tissue on the slide, in pixels of 0.5 µm"""
EXTENSIONS = {
    "my_fusion": "class MeanFusion", "my_loss": "class EventWeighted", "my_callback": "class HeadNorms",
    "my_encoder": "class ColourMoments", "my_tissue": "def dark", "my_networks": "class MaxPool",
    "my_survival": "class ConstantHazard", "my_task": "class MarkerLevel",
}  # fmt: skip
"""{module: words that the block of docs/extending.md with its content has}"""


def write_extensions(folder: Path) -> list[str]:
    """Write the modules of docs/extending.md, and return their names."""
    for module, words in EXTENSIONS.items():
        (folder / f"{module}.py").write_text(block_with("docs/extending.md", words))
    return list(EXTENSIONS)


def write_project(root: Path) -> None:
    """Write everything that several pages name into the working directory of their commands, `root`."""
    shutil.copytree(REPOSITORY / "configs", root / "configs")
    for i in range(3):
        star(root / "rna" / f"P{i}.rna_seq.augmented_star_gene_counts.tsv", 1 + i, ROWS)
    size = ["--patients", "24", "--held-out", "12", "--dim", "1280"]
    assert main(["simulate", str(root / "cohorts"), "--features-only", *size]) == 0
    (root / "data").mkdir()
    (root / "cohorts" / "development").rename(root / "data" / "luad")
    _write_slides(root)
    _claim_the_default_encoder(root)
    assert main(["cohort", "template", "--task", "survival", "--out", "data/mine"]) == 0
    shutil.copy(root / "configs" / "luad.yaml", root / "my.yaml")
    _write_trident_job(root / "trident_job", root / "data" / "luad" / "features.zarr")
    held_out = root / "cohorts" / "held_out"
    section = {"clinical": f"{held_out}/clinical.csv", "outcome": SURVIVAL, "features": f"{held_out}/features.zarr"}
    _write_yaml(root / "other_hospital.yaml", {"data": _data(section | {"name": "other_hospital"})})
    write_extensions(root)


def write_runs(root: Path) -> None:
    """Fit a model in two folds, and test it; every run that the pages name is one of these."""
    files = {"clinical": "clinical.csv", "expression": "expression.parquet", "features": "features.zarr"}
    section = {"name": "luad", "outcome": SURVIVAL, "split": {"folds": 2}}
    section |= {key: f"data/luad/{file}" for key, file in files.items()}
    model = {
        "class_path": "SubspaceTeacher",
        "init_args": {"width": 8, "task": {"class_path": "Survival"}, "backbone": None},
    }
    trainer = {"default_root_dir": "runs/x", "max_epochs": 1, "enable_progress_bar": False}
    _write_yaml(root / "folds.yaml", {"model": model, "data": _data(section), "trainer": trainer})
    assert main(["crossval", "--config", "folds.yaml", "--models", "teacher", "--out", "runs/mine"]) == 0
    assert main(["test", "--config", "other_hospital.yaml", "--ckpt_path", "runs/mine/fold_0/teacher/checkpoints/best.ckpt"]) == 0  # fmt: skip
    runs = root / "runs"
    for name in ("luad_crossval", "luad_uni_crossval", "mine_cv"):
        shutil.copytree(runs / "mine", runs / name)
    for name in ("luad", "luad_student", "demo_student"):
        shutil.copytree(runs / "mine" / "fold_0" / "teacher", runs / name)
    shutil.rmtree(runs / "mine" / "fold_0" / "teacher" / "test")


def write_tiles(root: Path) -> None:
    """Write answers with tiles, their annotated regions, and the truth of a simulated cohort."""
    held_out = root / "cohorts" / "held_out"
    shutil.copytree(held_out / "truth", root / "demo" / "held_out" / "truth")
    store = FeatureStore(held_out / "features.zarr")
    slide = next(iter(store.slides()))
    tables = []
    for magnification in (10, 20):
        x, y = store.read(slide, magnification).position.T
        tables.append(pd.DataFrame({"slide_id": slide, "magnification": magnification, "x_um": x, "y_um": y}))
    tiles = pd.concat(tables).assign(prototype="tumor")
    (root / "answers" / slide).mkdir(parents=True)
    tiles.to_csv(root / "answers" / slide / "tiles.csv", index=False)
    tiles.drop(columns="prototype").assign(region="Cellular Tumor").to_csv(root / "regions.csv", index=False)
    (root / "my_plots.py").write_text(block_with("docs/reports.md", "def risk_by_tissue"))


def _write_slides(root: Path) -> None:
    """One slide under every name that the pages have for it, a target of stains, and regions of interest."""
    picture = paint_stained(1680, 1344, TISSUE)
    for path in ("new.svs", "slides/new.svs", "data/luad/slides/id/new.svs", "demo/held_out/slides/a.tif"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_slide(root / path, picture)
    Image.fromarray(picture).save(root / "reference.png")
    corners = [[224, 224], [1344, 224], [1344, 1120], [224, 1120], [224, 224]]
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": {}}
    (root / "regions").mkdir()
    for path in ("new.geojson", "regions/new.geojson"):
        (root / path).write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))


def _claim_the_default_encoder(root: Path) -> None:
    """Let the simulated stores say that the default encoder made them, as the models then believe."""
    from dmml.slides.encoders.build import load_encoder

    identity = load_encoder().identity
    for cohort in ("data/luad", "cohorts/held_out"):
        path = root / cohort / "features.zarr" / "zarr.json"
        content = json.loads(path.read_text())
        content["attributes"]["encoder"] = identity
        path.write_text(json.dumps(content))


def _write_trident_job(job: Path, source: Path) -> None:
    """One slide as TRIDENT writes it, at 20x."""
    folder = job / "20x_224px_0px_overlap" / "features_uni_v1"
    folder.mkdir(parents=True)
    store = FeatureStore(source)
    bag = store.read(next(iter(store.slides())), 20)
    with h5py.File(folder / "a.h5", "w") as file:
        file["features"] = bag.features.astype(np.float32)
        file["coords"] = np.round(bag.position / 0.5 - 112).astype(np.int64)
        file["coords"].attrs.update({"patch_size": 224, "patch_size_level0": 224, "target_magnification": 20})


def _data(section: dict) -> dict:
    return {"class_path": "MultimodalDataModule", "init_args": section}


def _write_yaml(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content))

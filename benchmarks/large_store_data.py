"""A generated store of many slides, one per patient, with a clinical table, an RNA table and the config of a fit.

The store is written by `FeatureStore.write`, so that its files are those of an extraction; features are random numbers.
Slides are small, since it is their number that is measured: 2 tiles at 10x and 8 at 20x, of 32 features.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

FEATURES, TILES = 32, {10: 2, 20: 8}
GENES = {"tumor": ["TP53", "EGFR", "MYC", "KRAS"], "tme": ["CD3E", "CD8A", "COL1A1", "PTPRC"]}
_SEED = 0


def slide_id(number: int) -> str:
    """Id of a slide, in the form of TCGA's barcodes."""
    return f"{patient_id(number)}-01Z-00-DX1"


def patient_id(number: int) -> str:
    return f"P{number // 1000:03d}-{number % 1000:03d}"


def make_store(path: Path, slides: int) -> None:
    """Write a store of `slides` slides, or complete one that was interrupted."""
    from dmml.store import FeatureStore, SlideFeatures

    store = FeatureStore.create(path, {"name": "random", "dim": FEATURES}, {10: 1.0, 20: 0.5})
    present = set(store.names())
    grids = {m: np.stack(np.divmod(np.arange(n), int(np.ceil(n**0.5))), 1).astype(np.float32) for m, n in TILES.items()}
    position = {m: (grid + 0.5) * 224 * {10: 1.0, 20: 0.5}[m] for m, grid in grids.items()}
    parent = np.repeat(np.arange(TILES[10]), TILES[20] // TILES[10]).astype(np.int32)
    position[20] = _inside(position[10], parent)
    for number in range(slides):
        if (name := slide_id(number)) in present:
            continue
        random = np.random.default_rng([_SEED, number])
        features = {m: random.standard_normal((n, FEATURES)).astype(np.float16) for m, n in TILES.items()}
        bags = {
            10: SlideFeatures(features[10], position[10]),
            20: SlideFeatures(features[20], position[20], parent),
        }
        store.write(name, bags, _attributes(name, number))


def _inside(coarse: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Centres of four fine tiles inside each coarse one."""
    corner = np.tile(np.array([[-56, -56], [56, -56], [-56, 56], [56, 56]], np.float32), (len(coarse), 1))
    return coarse[parent] + corner


def _attributes(name: str, number: int) -> dict[str, Any]:
    """Attributes as an extraction writes them."""
    return {
        "source": f"{name}.svs",
        "source_bytes": 1_000_000_000 + number,
        "source_time": 1_700_000_000_000_000_000 + number,
        "source_hash": f"{number:064x}",
        "dimensions": [80_000, 60_000],
        "mpp": 0.2526,
        "mpp_source": "openslide.mpp-x",
        "tissue_mm2": 120.5,
        "tile_um": {"10": 224.0, "20": 112.0},
        "thumbnail_mpp": 32.0,
        "findings": {},
        "notes": [],
        "tiles": {str(m): n for m, n in TILES.items()},
        "tiles_unreadable": 0,
    }


def make_cohort(folder: Path, patients: int, features: Path) -> Path:
    """Write the tables of a cohort and the config of a fit; return the config's path.

    Args:
        folder: Folder to write to.
        patients: Number of patients; each has the slide of its number.
        features: The store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED)
    ids = [patient_id(number) for number in range(patients)]
    clinical = {
        "patient_id": ids,
        "slide_id": [slide_id(number) for number in range(patients)],
        "os_days": random.exponential(1000, patients).round(1) + 1,
        "os_event": random.integers(0, 2, patients),
    }
    pd.DataFrame(clinical).to_csv(folder / "clinical.csv", index=False)
    names = [gene for of_subspace in GENES.values() for gene in of_subspace]
    table = pd.DataFrame(random.gamma(2.0, 20.0, (patients, len(names))).round(2), index=ids, columns=names)
    table.to_csv(folder / "expression.csv", index_label="patient_id")
    for subspace, members in GENES.items():
        (folder / f"{subspace}.gmt").write_text("\t".join([f"{subspace}_program", "made up", *members]) + "\n")
    config = {
        "seed_everything": 0,
        "model": {
            "class_path": "SubspaceTeacher",
            "init_args": {"width": 32, "backbone": None, "task": {"class_path": "Survival"}},
        },
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {
                "clinical": str(folder / "clinical.csv"),
                "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
                "expression": {"path": str(folder / "expression.csv"), "scale": "tpm"},
                "gene_sets": {s: str(folder / f"{s}.gmt") for s in GENES},
                "features": str(features),
                "batch_size": 8,
            },
        },
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_epochs": 1,
            "max_steps": 1,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "accelerator": "cpu",
            "logger": False,
            "callbacks": [{"class_path": "first_step.FirstStep"}],
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.rmtree(folder / "run", ignore_errors=True)
    return path


def describe() -> str:
    """The store's slides, in words."""
    tiles = " and ".join(f"{n} tiles at {m}x" for m, n in TILES.items())
    return f"{tiles}, of {FEATURES} features"

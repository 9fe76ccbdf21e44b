"""Do the maps of a student find true tumor and microenvironment, and are they faithful? On simulated held-out slides.

The held-out slides of a finished `make demo` are predicted with the demo's student, and with a student without a backbone,
which is fitted here under the same teacher if it was not fitted before. For every slide, subspace and magnification: the AUC
by which absolute contributions, signed contributions and attention separate the tiles of the subspace's true regions from
the other tiles, and the deletion test of each map against random orders and against attention. Prints the tables, and
writes `explanations.json` and `explanations.md`.

    python benchmarks/explanations.py --out docs/results
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from explanations_page import page
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dmml.__main__ import main as dmml
from dmml.atomic_files import write_json, write_text
from dmml.data.collate import Collate
from dmml.data.dataset import PatientReader
from dmml.evaluation.bootstrap import Interval, resamples, weighted_interval
from dmml.evaluation.statistics.tile_maps import TUMOR
from dmml.experiment.load_model import load_model
from dmml.experiment.predict_slide.answer import read_answer
from dmml.experiment.predict_slide.explain.explanation import explain
from dmml.experiment.predict_slide.explain.faithfulness import ATTENTION
from dmml.experiment.predict_slide.explain.levels import LEVELS
from dmml.slides.label_folder import read_label_folder
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.store import FeatureStore
from dmml.types import SUBSPACES, Batch

LEVEL = replace(LEVELS["full"], orders=99, sheet_tiles=0)
STUDENTS = {"demo": "demo_student", "no_backbone": "demo_student_no_backbone"}
MEASURES = ("absolute", "signed", "attention")


def main(argv: list[str] | None = None) -> None:
    """Explain the held-out slides with both students, and write the page."""
    arguments, started = _arguments(argv), time.process_time()
    torch.set_num_threads(1)
    cohort = arguments.cohorts / "held_out"
    results: dict[str, Any] = {"students": {}}
    for name, run in STUDENTS.items():
        folder = arguments.runs / run
        if name != "demo":
            _fit_without_backbone(folder)
        checkpoint = folder / "checkpoints" / "best.ckpt"
        model = load_model(checkpoint).module
        regions, deletions = explain_slides(checkpoint, cohort, arguments.slides)
        summary = {"deep_share": float(model._share("deep_share")), "slides": int(regions["slide_id"].nunique())}
        results["students"][name] = summary | {
            "regions": summarise_regions(regions),
            "deletion": summarise_deletions(deletions),
        }
        print(f"{run}: {summary['slides']} slides are explained", flush=True)
    results["orders"], results["shares"] = LEVEL.orders, LEVEL.shares
    results["cpu_minutes"] = round((time.process_time() - started) / 60, 1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "explanations.json", results)
    text = page(results)
    write_text(arguments.out / "explanations.md", text)
    print(text)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--cohorts", type=Path, default=Path("demo"), help="folder of the cohorts of a finished demo")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of its runs")
    parser.add_argument("--slides", type=int, help="number of held-out slides; default: all")
    return parser.parse_args(argv)


def _fit_without_backbone(folder: Path) -> None:
    """Fit the demo's student without its backbone, unless that is done."""
    if (folder / "provenance.json").is_file():
        return
    config = yaml.safe_load(Path("configs/demo_student.yaml").read_text(encoding="utf-8"))
    config["model"]["init_args"]["backbone"] = None
    config["trainer"] |= {"default_root_dir": str(folder), "enable_progress_bar": False}
    path = folder.with_suffix(".yaml")
    write_text(path, yaml.safe_dump(config))
    if dmml(["fit", "--config", str(path)]):
        raise SystemExit("dmml fit failed; run the benchmark again once its message is dealt with")


def explain_slides(checkpoint: Path, cohort: Path, n_slides: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain the slides of a cohort, each as a patient of its own.

    Args:
        checkpoint: The student.
        cohort: Folder with `features.zarr` and `truth`.
        n_slides: Number of slides; None = all.

    Returns:
        One row per slide, magnification, subspace and measure with the `auc`, and one row per tested map.
    """
    model, truth = load_model(checkpoint).module, read_label_folder(cohort / "truth")
    regions, deletions = [], []
    for slide_id, batch in slide_batches(FeatureStore(cohort / "features.zarr"), model.magnifications, n_slides):
        answer, output = read_answer(model, batch)
        answer, explanation = explain(model, batch, answer, output, LEVEL)
        if explanation.deep is not None:
            assert all(part.is_complete for part in explanation.deep.parts.values()), slide_id
        for m, bag in batch.bags.items():
            region = np.array(truth.regions(slide_id, bag.position[0].numpy(), tile_um(m, DEFAULT_TILE_PX)))
            for s in SUBSPACES:
                scores = answer.tiles.scores[m, s]
                values = {"absolute": np.abs(scores), "signed": scores, "attention": output.attention[m, s][0].numpy()}
                in_region = (region == TUMOR) == (s == SUBSPACES[0])
                for measure, each in values.items():
                    row = {"slide_id": slide_id, "magnification": m, "subspace": s, "measure": measure}
                    regions.append(row | {"auc": auc(in_region, each)})
        for tested in explanation.tested:
            if tested.deletion is None:
                continue
            row = {
                "slide_id": slide_id,
                "magnification": tested.magnification,
                "part": tested.part,
                "kind": tested.kind,
            }
            random = float(tested.deletion.random.mean())
            by_attention = np.nan if tested.deletion.attention is None else tested.deletion.attention
            row |= {"area": tested.deletion.area, "random": random, "by_attention": by_attention}
            deletions.append(row | {"better": tested.deletion.is_better_than_random})
    return pd.DataFrame(regions), pd.DataFrame(deletions)


def slide_batches(
    store: FeatureStore, magnifications: tuple[int, ...], n_slides: int | None = None
) -> Iterator[tuple[str, Batch]]:
    """Yield (slide, batch of this slide alone) of a store."""
    slides = sorted(store.slides())[:n_slides]
    reader = PatientReader(store, {slide: [slide] for slide in slides}, magnifications, cache_gib=0)
    for slide in slides:
        collate = Collate(magnifications, [slide], {}, torch.zeros(1, dtype=torch.bool), {})
        yield slide, collate([reader.read(slide)])


def auc(in_region: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    """Area under the ROC curve; NaN if all tiles are in the region, or none is."""
    return float(roc_auc_score(in_region, values)) if 0 < in_region.sum() < len(in_region) else np.nan


def summarise_regions(regions: pd.DataFrame) -> dict[str, Any]:
    """Mean AUC over slides with its interval, by magnification, subspace and measure, and absolute minus attention."""
    summary: dict[str, Any] = {}
    for (m, s), group in regions.groupby(["magnification", "subspace"]):
        table = group.pivot(index="slide_id", columns="measure", values="auc").dropna()
        entry = {measure: interval_of(table[measure].to_numpy()) for measure in MEASURES}
        entry["absolute_minus_attention"] = interval_of((table["absolute"] - table["attention"]).to_numpy())
        summary[f"{m}x_{s}"] = entry | {"slides": len(table)}
    return summary


def summarise_deletions(deletions: pd.DataFrame) -> dict[str, Any]:
    """Mean areas over slides, by magnification, part and kind of map: minus those of random orders, and of attention."""
    summary: dict[str, Any] = {}
    for (m, part, kind), group in deletions.groupby(["magnification", "part", "kind"]):
        entry = {
            "area": interval_of(group["area"].to_numpy()),
            "random": interval_of(group["random"].to_numpy()),
            "minus_random": interval_of((group["area"] - group["random"]).to_numpy()),
            "better": float(group["better"].mean()),
            "slides": len(group),
        }
        if kind != ATTENTION and group["by_attention"].notna().all():
            entry["by_attention"] = interval_of(group["by_attention"].to_numpy())
        summary[f"{m}x_{part}_{kind}"] = entry
    return summary


def interval_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean of one value per slide, and its bootstrap interval over slides."""
    interval: Interval = weighted_interval(
        lambda weights: weights @ values / weights.sum(axis=1), resamples(len(values))
    )
    return interval._asdict()


if __name__ == "__main__":
    main()

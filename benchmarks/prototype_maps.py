"""Do the clusters of the paper's student lie on tumor and microenvironment? Maps of held-out slides against their truth.

Slides of the demo's kind are simulated and extracted, the teacher and the student of `configs/paper` are fitted (with the
first seed also without distillation), and the held-out slides are mapped with `dmml predict-slide`. Dice, recall and accuracy stand beside
those of maps that need no model. Everything is kept in `--work`, and a second run continues there. Prints the tables, and
writes `prototype_maps.json`, `prototype_maps.md` and `prototype_maps.png`.

    python benchmarks/prototype_maps.py --out docs/results

`--cohorts demo` takes the cohorts of a finished `make demo` instead of simulating others.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prototype_models import COHORTS, STUDENTS, fit_models, make_cohorts, map_slides
from prototype_page import COLUMNS, draw_picture, page
from prototype_references import agreement, named_better, randomly_split, taught_tiles, tiles_of_store, two_means

from dmml.atomic_files import write_json, write_text
from dmml.evaluation.bootstrap import Interval, resamples, weighted_interval
from dmml.evaluation.statistics.tile_maps import TME, TUMOR

EDGE = 0.1
"""Share of glass above which a tile lies at the edge of the tissue"""


def main(argv: list[str] | None = None) -> None:
    """Run all parts that are not done yet, and write the page."""
    arguments, started = _arguments(argv), time.process_time()
    cohorts = arguments.cohorts or arguments.work / "cohorts"
    if arguments.cohorts is None:
        make_cohorts(cohorts, arguments.patients, arguments.held_out)
    maps: dict[str, list[pd.DataFrame]] = {name: [] for name in STUDENTS}
    for seed in arguments.seeds:
        folder = arguments.work / f"seed_{seed}"
        students = STUDENTS if seed == arguments.seeds[0] else STUDENTS[:1]
        for name, checkpoint in fit_models(cohorts, folder, seed, arguments.epochs, students).items():
            out = folder / f"maps_{name}"
            map_slides(cohorts / "held_out" / "slides", checkpoint, out)
            maps[name].append(read_maps(out))
            print(f"seed {seed}, {name}: {maps[name][-1]['slide_id'].nunique()} slides are mapped", flush=True)
    truth, training = (tiles_of_store(cohorts / cohort) for cohort in ("held_out", "development"))
    results = evaluate(maps, truth, training)
    results["settings"] = {
        "patients": _patients(cohorts / COHORTS[0]),
        "held_out": _patients(cohorts / COHORTS[1]),
        "slides": truth["slide_id"].nunique(),
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    first = maps["distilled"][0]
    pictured = agreement(first, truth)["tme_accuracy"].xs(20, level="magnification").sort_values(kind="stable")
    slides = [pictured.index[i] for i in (0, len(pictured) // 2, -1)]
    draw_picture(arguments.out / "prototype_maps.png", cohorts / "held_out", truth, first, slides)
    results["picture"] = "prototype_maps.png"
    results["pictured"] = (
        f"with the first seed, of the lowest ({slides[0]}), median ({slides[1]}) and highest accuracy ({slides[2]})"
    )
    results["cpu_minutes_of_last_run"] = round((time.process_time() - started) / 60, 1)
    write_json(arguments.out / "prototype_maps.json", results)
    text = page(results)
    write_text(arguments.out / "prototype_maps.md", text)
    print(text)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/prototype_maps"), help="folder of cohorts, fits and maps"
    )
    parser.add_argument("--cohorts", type=Path, help="folder of a finished demo; its slides are not simulated again")
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--held-out", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 0])
    return parser.parse_args(argv)


def _patients(cohort: Path) -> int:
    return pd.read_csv(cohort / "clinical.csv")["patient_id"].nunique()


def read_maps(folder: Path) -> pd.DataFrame:
    """Join the tables `tiles.csv` of all slides."""
    tables = [pd.read_csv(path, dtype={"slide_id": str}) for path in sorted(folder.glob("*/tiles.csv"))]
    return pd.concat(tables, ignore_index=True)


def evaluate(maps: dict[str, list[pd.DataFrame]], truth: pd.DataFrame, training: pd.DataFrame) -> dict[str, Any]:
    """Compare every map with the truth.

    Args:
        maps: {student: one table of tiles per seed}.
        truth: Result of `tiles_of_store` for the held-out cohort.
        training: The same for the development cohort.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, of_seeds in maps.items():
        tables[name] = [_with_share(agreement(tiles, truth), tiles) for tiles in of_seeds]
        for variant, unit in (("named_once", ("magnification",)), ("named_better", ("slide_id", "magnification"))):
            better = [named_better(tiles, truth, unit) for tiles in of_seeds]
            tables[f"{name}_{variant}"] = [_with_share(agreement(tiles, truth), tiles) for tiles in better]
    for name, with_better_names in (("random", False), ("random_named_better", True)):
        drawn = [randomly_split(tiles, truth, with_better_names) for tiles in maps["distilled"]]
        tables[name] = [_with_share(each, tiles) for each, tiles in zip(drawn, maps["distilled"], strict=True)]
    references = {
        "all_tumor": truth.assign(prototype=TUMOR),
        "two_means": named_better(two_means(truth, training), truth),
        "taught_tiles": taught_tiles(truth, training),
    }
    tables |= {name: [_with_share(agreement(tiles, truth), tiles)] for name, tiles in references.items()}
    edge = truth.assign(region=np.where(truth["glass"] > EDGE, TUMOR, TME))  # as if tiles at the edge were the tumor
    at_edge = {
        "clusters": [agreement(named_better(tiles, edge), edge) for tiles in maps["distilled"]],
        "random": [randomly_split(tiles, edge, with_better_names=True) for tiles in maps["distilled"]],
    }
    blocks = {}
    for m in sorted(truth["magnification"].unique()):
        of_m = {name: [t.xs(m, level="magnification") for t in each] for name, each in tables.items()}
        region = truth.loc[truth["magnification"] == m, "region"]
        blocks[str(m)] = {
            "tiles": len(region),
            "slides": truth.loc[truth["magnification"] == m, "slide_id"].nunique(),
            "tumor": float((region == TUMOR).mean()),
            "maps": {name: _summary(each) for name, each in of_m.items()},
            "edge": {
                name: _mean(pd.concat([t.xs(m, level="magnification")["tme_accuracy"] for t in each]))
                for name, each in at_edge.items()
            },
            "naming": {name: _naming(of_m[name], of_m[f"{name}_named_better"]) for name in maps},
        }
    return {"magnifications": blocks}


def _with_share(table: pd.DataFrame, tiles: pd.DataFrame) -> pd.DataFrame:
    """Add the share of a slide's tiles that are in the tumor cluster."""
    is_tumor = (tiles["prototype"] == TUMOR).groupby([tiles["slide_id"], tiles["magnification"]]).mean()
    return table.assign(tumor_share=is_tumor)


def _summary(of_seeds: list[pd.DataFrame]) -> dict[str, Any]:
    """Mean over slides and seeds with the bootstrap interval over slides, and the mean of each seed."""
    summary: dict[str, Any] = {"by_seed": {c: [_mean(t[c]) for t in of_seeds] for c in COLUMNS}}
    for column in COLUMNS:
        values = pd.concat([table[column] for table in of_seeds], axis=1).mean(axis=1).dropna().to_numpy()
        if len(values):
            summary[column] = _mean_interval(values)._asdict()
        else:
            summary[column] = {"value": None, "low": None, "high": None}
    return summary


def _mean_interval(values: np.ndarray) -> Interval:
    """Mean of one value per slide, and its bootstrap interval."""
    return weighted_interval(lambda weights: weights @ values / weights.sum(axis=1), resamples(len(values)))


def _mean(values: pd.Series) -> float | None:
    """Mean over the slides where a value is defined; None if it is nowhere."""
    return float(values.mean()) if values.notna().any() else None


def _naming(as_named: list[pd.DataFrame], better: list[pd.DataFrame]) -> dict[str, int]:
    """Count the maps whose names are the better and the worse of the two, and those with a single cluster or none."""
    counts = {"maps": 0, "right": 0, "wrong": 0, "single": 0}
    for named, best in zip(as_named, better, strict=True):
        has_two = named["tumor_share"].between(0, 1, inclusive="neither")
        is_worse = best["tme_accuracy"] > named["tme_accuracy"]
        counts["maps"] += len(named)
        counts["single"] += int((~has_two).sum())
        counts["right"] += int((has_two & ~is_worse).sum())
        counts["wrong"] += int((has_two & is_worse).sum())
    return counts


if __name__ == "__main__":
    main()

"""Does a model know its limits? Coverage of its sets and bounds, and false alarms on unseen slides, on simulated cohorts.

For every seed, patients are simulated as token features. A student of survival and a student of the grade are fitted to
295 of them, who are divided into training and inner validation as by `dmml fit`. Its limits are fitted as by `dmml fit`, and
read back from the checkpoint as by `dmml predict-slide`. Then 150 further patients of the same sites are predicted, and
60 of another hospital. The chance that a set holds the true grade, or that the event comes after a bound, is computed
from each patient's true state, so that no outcome needs to be drawn. Writes `limits.json` and `limits.md`.

    python benchmarks/limits.py --out docs/results            # about 10 minutes on one core
    python benchmarks/limits.py --cohorts 2 --out /tmp/limits
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from scipy.stats import norm, t

from dmml.data.module import MultimodalDataModule
from dmml.evaluation.limits.slide_limits import judge_slide
from dmml.evaluation.limits.slide_summary import summarise_slide
from dmml.evaluation.limits.survival_bounds import LEVELS
from dmml.experiment.crossval.fit import TASK_LOSS_ONLY
from dmml.experiment.limits.cohort_slides import training_slide_limits
from dmml.experiment.limits.inner_validation import conformal_calibration
from dmml.experiment.load_model import load_model
from dmml.experiment.predict_slide.encoding.patient_batch import patient_batch
from dmml.experiment.training_reference import add_to_fitted, load_weights
from dmml.networks.packing import pack
from dmml.simulate import truth
from dmml.simulate.tokens import TILE_UM, draw_tokens, token_model
from dmml.simulate.truth import Patient, draw_patients
from dmml.store import FeatureStore
from dmml.tasks import Classification, Survival
from dmml.training.student import SubspaceStudent

FITTED, UNSEEN, ELSEWHERE = 295, 150, 60
"""Patients to whom a model is fitted, a fifth of them in the inner validation; further patients; and of another hospital"""
SLIDES = 100
"""Unseen slides of the training sites that are judged, one per patient"""
DIM, WIDTH, EPOCHS, VISIBILITY, CELLS = 32, 16, 6, 0.8, (4, 7)
TOLERANCE = 0.03
"""Distance of the coverage from its promise that is allowed"""


def write_cohort(folder: Path, patients: list[Patient], seed: int) -> None:
    """Write the clinical table of the patients to be fitted, and a store with the features of all.

    The order of the table is drawn, because `dmml fit` divides every table of the same strata in the same way.
    """
    encoder = {"name": "simulated", "weights": token_model(DIM).digest(), "dim": DIM, "preprocessing": {}}
    store = FeatureStore.create(folder / "features.zarr", encoder, {m: um / 224 for m, um in TILE_UM.items()})
    for patient in patients:
        for index, slide in enumerate(patient.slides):
            bags, _ = draw_tokens(patient, index, DIM, VISIBILITY, CELLS)
            store.write(slide, bags, {"mpp": 0.5, "mpp_source": "simulated"})
    rows = [
        (patients[i].patient_id, slide, patients[i].days, patients[i].event, patients[i].grade)
        for i in np.random.default_rng(seed).permutation(FITTED)
        for slide in patients[i].slides
    ]
    columns = ["patient_id", "slide_id", "os_days", "os_event", "grade"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "clinical.csv", index=False)


def fitted_model(folder: Path, task: Survival | Classification, outcome: dict, seed: int) -> str:
    """Fit a student and its limits as `dmml fit` does; return its best checkpoint."""
    data = MultimodalDataModule(
        clinical=str(folder / "clinical.csv"), features=str(folder / "features.zarr"), outcome=outcome, batch_size=32
    )
    run = folder / task.kind
    keep = ModelCheckpoint(dirpath=run, filename="best", monitor="val/loss", enable_version_counter=False)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    seed_everything(seed, verbose=False)
    model = SubspaceStudent(task=task, width=WIDTH, genes={}, **TASK_LOSS_ONLY)
    trainer = Trainer(
        max_epochs=EPOCHS, callbacks=[keep, EarlyStopping("val/loss", patience=4)], default_root_dir=run, **quiet
    )
    trainer.fit(model, data)
    load_weights(keep.best_model_path, model, torch.device("cpu"))
    limits = {"slide_limits": training_slide_limits(data), "conformal": conformal_calibration(model, data)}
    add_to_fitted(keep.best_model_path, pack(limits))
    return keep.best_model_path


def survival_chance(patient: Patient, days: float) -> float:
    """True probability that the event comes on the given day or later."""
    scale = truth.MEDIAN_DAYS / math.log(2) ** (1 / truth.WEIBULL_SHAPE)
    since = max(0.0, days - truth.FIRST_DAY)
    return math.exp(-math.exp(patient.risk) * (since / scale) ** truth.WEIBULL_SHAPE)


def grade_chances(patient: Patient) -> dict[str, float]:
    """True probability of each grade, given the patient's factors."""
    weights = truth.GRADE_WEIGHTS
    spread = math.sqrt(weights @ truth.CORRELATION @ weights + truth.GRADE_NOISE**2)
    cuts = (np.array(truth.GRADE_CUTS) * spread - patient.factors @ weights) / truth.GRADE_NOISE
    below = np.concatenate([[0.0], norm.cdf(cuts), [1.0]])
    return dict(zip(truth.GRADES, np.diff(below).tolist(), strict=True))


def promises(checkpoint: str, store: FeatureStore, patients: list[Patient]) -> list[dict[str, Any]]:
    """What a model promises of each patient, from the features of all slides."""
    model = load_model(checkpoint).module
    conformal, calibration = model.task.conformal(), model.fitted["conformal"]
    each = []
    for patient in patients:
        slides = {s: {m: store.read(s, m) for m in model.magnifications} for s in patient.slides}
        with torch.inference_mode():
            logits = model(patient_batch(patient.patient_id, slides, model.magnifications)).logits
        each.append(conformal.promise(calibration, logits, model.fitted.get("censoring")))
    return each


def alarms(checkpoint: str, store: FeatureStore, patients: list[Patient]) -> dict[str, float]:
    """Share of the patients' first slides with any warning, and of those unlike the training slides."""
    limits = load_model(checkpoint).module.fitted["slide_limits"]
    judged = []
    for patient in patients:
        slide = patient.slides[0]
        bags = {m: store.read(slide, m) for m in TILE_UM}
        judged.append(judge_slide(limits, summarise_slide(bags, None, store.slide_attributes(slide))))
    return {
        "any_warning": float(np.mean([bool(each.warnings) for each in judged])),
        "unlike": float(np.mean([each.is_unlike for each in judged])),
    }


def one_cohort(folder: Path, seed: int) -> dict[str, Any]:
    """Coverage and alarms of one simulated cohort."""
    same, elsewhere = draw_patients("development", FITTED + UNSEEN, seed), draw_patients("held_out", ELSEWHERE, seed)
    write_cohort(folder, [*same, *elsewhere], seed)
    store, unseen = FeatureStore(folder / "features.zarr"), same[FITTED:]
    survival = fitted_model(folder, Survival(), {"time": "os_days", "event": "os_event", "unit": "days"}, seed)
    grade = fitted_model(folder, Classification(list(truth.GRADES)), {"label": "grade"}, seed)
    bounds, sets = promises(survival, store, unseen), promises(grade, store, unseen)
    result: dict[str, Any] = {"seed": seed, "n_calibration": load_model(grade).module.fitted["conformal"]["n"]}
    for level in LEVELS:
        stated = [{each["level"]: each for each in promise["bounds"]} for promise in bounds]
        days = [each[level]["days"] if level in each else 0.0 for each in stated]
        result[f"bound {level:g}"] = float(np.mean([survival_chance(*pair) for pair in zip(unseen, days, strict=True)]))
        result[f"days {level:g}"] = float(np.median(days))
        result[f"at the last day {level:g}"] = float(
            np.mean([each[level]["is_last"] for each in stated if level in each])
        )
    chances = [grade_chances(patient) for patient in unseen]
    pairs = list(zip(chances, (each["classes"] for each in sets), strict=True))
    result["set 0.9"] = float(np.mean([sum(chance[name] for name in classes) for chance, classes in pairs]))
    result["classes in a set"] = float(np.mean([len(classes) for _, classes in pairs]))
    result["same_sites"] = alarms(survival, store, unseen[:SLIDES])
    result["elsewhere"] = alarms(survival, store, elsewhere)
    result["deep_share"] = [float(load_model(path).module.deep_share) for path in (survival, grade)]
    result["checkpoint_bytes"] = len(json.dumps(pack(load_model(survival).module.fitted["slide_limits"])))
    return result


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by the t distribution over cohorts."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def coverage_rows(cohorts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per promise."""
    rows = []
    for key, name in [("set 0.9", "set of grades")] + [(f"bound {x:g}", "lower bound of survival") for x in LEVELS]:
        promised = float(key.split()[1])
        mean, low, high = mean_and_interval([cohort[key] for cohort in cohorts])
        detail = (
            f"{np.mean([c['classes in a set'] for c in cohorts]):.2f} of 3 grades in a set"
            if key.startswith("set")
            else f"median bound {np.mean([c[f'days {promised:g}'] for c in cohorts]):.0f} days"
        )
        row = {"promise": name, "level": promised, "coverage": mean, "low": low, "high": high, "detail": detail}
        rows.append(row | {"within_three_points": abs(mean - promised) <= TOLERANCE})
    return rows


def markdown(content: dict[str, Any], command: str) -> str:
    """The page of docs/results."""
    cohorts, rows = content["cohorts"], content["coverage"]
    same = [cohort["same_sites"]["any_warning"] for cohort in cohorts]
    lines = [
        "# Does a model know its limits?",
        "",
        f"`{command}`, {len(cohorts)} simulated cohorts, {content['minutes']:.0f} minutes of one core. In each, a student of survival and a "
        f"student of the grade are fitted to {FITTED} patients, {cohorts[0]['n_calibration']} of them in the inner validation, "
        f"which chooses the epoch and calibrates the promises. They predict {UNSEEN} further patients of the same sites from "
        "slides alone. Coverage is the mean of the true probabilities, which the simulation knows; intervals are 95 % "
        "intervals of the mean over cohorts.",
        "",
        "| promise | promised | coverage | 95 % interval | within three points | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = [f"{100 * row[key]:.1f} %" for key in ("level", "coverage", "low", "high")]
        verdict = "yes" if row["within_three_points"] else "**no**"
        lines.append(
            f"| {row['promise']} | {values[0]} | {values[1]} | {values[2]} to {values[3]} | {verdict} | {row['detail']} |"
        )
    spread = np.std([cohort["set 0.9"] for cohort in cohorts]), np.std([cohort["bound 0.9"] for cohort in cohorts])
    lines += [
        "",
        "The promise is a minimum. The bounds cover more than promised where they reach the last day until which enough "
        f"training patients are followed: at 50 %, for {100 * np.mean([c['at the last day 0.5'] for c in cohorts]):.0f} % of the "
        "patients.",
        "",
        f"A promise holds on average over calibrations. Single cohorts differ: the standard deviation of the coverage between "
        f"cohorts is {100 * spread[0]:.1f} points for the sets, and {100 * spread[1]:.1f} points for the bounds at 90 %.",
        "",
        "## Slides unlike the training slides",
        "",
        "| slides | unlike | any warning |",
        "|---|---|---|",
    ]
    for key, name in (
        ("same_sites", f"{SLIDES} unseen slides of the training sites"),
        ("elsewhere", f"{ELSEWHERE} slides of another hospital"),
    ):
        cells = []
        for kind in ("unlike", "any_warning"):
            mean, low, high = mean_and_interval([cohort[key][kind] for cohort in cohorts])
            cells.append(f"{100 * mean:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    enough = sum(share <= 0.1 for share in same)
    lines += [
        "",
        f"Of the {len(cohorts)} cohorts, {enough} leave at least 90 of the {SLIDES} unseen slides without a warning; the largest "
        f"number of warnings is {max(same) * SLIDES:.0f}. A threshold that 5 % of unseen slides exceed on average is exceeded by "
        "more or fewer in a single cohort. Simulated features have no thumbnails, so the stain takes no part. How often "
        "slides of another hospital are noticed depends on how different they are: in this simulation, sites differ by a "
        "shift of every tile.",
        "",
        f"The deep part counts (its share is above 0) in {sum(share > 0 for c in cohorts for share in c['deep_share'])} of the "
        f"{2 * len(cohorts)} models. In the others the backbone alone decides, so that the choice of the epoch by the same "
        "patients has no influence on their coverage.",
        "",
        f"The limits of the slides take {cohorts[0]['checkpoint_bytes'] / 1000:.0f} kB of the checkpoint at {DIM} features per tile.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "dmml"):
        logging.getLogger(name).setLevel(logging.ERROR)
    start, cohorts = time.perf_counter(), []
    for seed in range(args.cohorts):
        with tempfile.TemporaryDirectory() as folder:
            cohorts.append(one_cohort(Path(folder), seed))
        print(json.dumps(cohorts[-1]), f"{time.perf_counter() - start:.0f} s", flush=True)
    minutes = time.process_time() / 60
    content = {"cohorts": cohorts, "coverage": coverage_rows(cohorts), "minutes": minutes}
    command = "python benchmarks/limits.py" + ("" if args.cohorts == 20 else f" --cohorts {args.cohorts}")
    page = markdown(content, command)
    print(page)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "limits.md").write_text(page, encoding="utf-8")
    (args.out / "limits.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

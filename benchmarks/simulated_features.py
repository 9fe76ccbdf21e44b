"""Does the chain work on simulated features? Teacher, student, undistilled student, and the same with permuted outcomes.

For every seed, cohorts of token features are simulated (development and held-out, other sites and batch), a teacher and
its student are fitted on the development cohort as by `dmml fit`, and tested once on the held-out patients. In the
world of the first seed, teacher and student are also fitted several times to permuted outcomes of the development
patients. Prints tables and writes `simulated_features.json` and `simulated_features.md`; with --part, the other part of
the page keeps the results of an earlier run.

    python benchmarks/simulated_features.py --out docs/results
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from scipy.stats import t

from dmml.__main__ import main as dmml
from dmml.callbacks.collection import CollectPredictions
from dmml.data.module import MultimodalDataModule
from dmml.evaluation.bootstrap import interval, paired_difference
from dmml.evaluation.metrics import concordance_index
from dmml.experiment.crossval.fit import TASK_LOSS_ONLY
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

MODELS = ("oracle", "teacher", "student", "student_undistilled")


def data(folder: Path, clinical: str = "clinical.csv") -> MultimodalDataModule:
    """A simulated cohort as a data module."""
    return MultimodalDataModule(
        clinical=str(folder / clinical),
        name=folder.name,
        outcome={"time": "os_days", "event": "os_event", "unit": "days"},
        expression=str(folder / "expression.parquet"),
        features=str(folder / "features.zarr"),
    )


def permute_outcomes(folder: Path, seed: int) -> str:
    """Permute the outcomes among the patients of the development cohort."""
    table = pd.read_csv(folder / "clinical.csv")
    patients = table["patient_id"].unique()
    dealt = dict(zip(patients, np.random.default_rng(seed).permutation(patients), strict=True))
    outcome = table.drop_duplicates("patient_id").set_index("patient_id")[["os_days", "os_event"]]
    table[["os_days", "os_event"]] = outcome.loc[table["patient_id"].map(dealt)].to_numpy()
    table.to_csv(folder / "permuted.csv", index=False)
    return "permuted.csv"


def fit(model, cohort: MultimodalDataModule, folder: Path, seed: int, epochs: int) -> str:
    """Fit as `dmml fit` does, and return the best checkpoint."""
    keep = ModelCheckpoint(dirpath=folder, filename="best", monitor="val/loss", enable_version_counter=False)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    callbacks = [keep, EarlyStopping("val/loss", patience=12)]
    seed_everything(seed, verbose=False)
    Trainer(max_epochs=epochs, gradient_clip_val=1.0, callbacks=callbacks, default_root_dir=folder, **quiet).fit(
        model, cohort
    )
    return keep.best_model_path


def test(kind: type, checkpoint: str, cohort: MultimodalDataModule) -> pd.DataFrame:
    """Predictions of the held-out patients."""
    collect = CollectPredictions()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model = kind.load_from_checkpoint(checkpoint, weights_only=True)
    Trainer(callbacks=[collect], **quiet).test(model, cohort, verbose=False)
    return pd.DataFrame(collect.rows).set_index("patient_id")


def simulate(root: Path, arguments: argparse.Namespace, seed: int) -> tuple[Path, Path]:
    """Folders of the development and the held-out cohort of one world."""
    size = ["--patients", str(arguments.patients), "--held-out", str(arguments.held_out), "--seed", str(seed)]
    if dmml(["simulate", str(root / "cohorts"), "--features-only", *size]):
        raise SystemExit("the simulation failed")
    return root / "cohorts" / "development", root / "cohorts" / "held_out"


def teacher_and_student(
    development: MultimodalDataModule,
    tested: MultimodalDataModule,
    root: Path,
    seed: int,
    arguments: argparse.Namespace,
) -> pd.DataFrame:
    """`time`, `event`, and the risks of a teacher and its student, of the tested patients."""
    task, epochs, width = Survival(), arguments.epochs, arguments.width
    teacher = fit(SubspaceTeacher(task=task, width=width), development, root / "teacher", seed, epochs)
    taught = SubspaceStudent(task=task, teacher=teacher, width=width)
    student = fit(taught, development, root / "student", seed, epochs)
    predicted = test(SubspaceTeacher, teacher, tested)
    table = predicted[["time", "event"]].assign(teacher=predicted["risk"])
    return table.assign(student=test(SubspaceStudent, student, tested)["risk"])


def one_seed(root: Path, seed: int, arguments: argparse.Namespace) -> pd.DataFrame:
    """Risks of every model on the held-out patients of one simulated world."""
    development, held_out = simulate(root, arguments, seed)
    tested = data(held_out)
    table = teacher_and_student(data(development), tested, root, seed, arguments)
    lone = SubspaceStudent(task=Survival(), width=arguments.width, **TASK_LOSS_ONLY)
    alone = fit(lone, data(development), root / "alone", seed, arguments.epochs)
    table["student_undistilled"] = test(SubspaceStudent, alone, tested)["risk"]
    return table.assign(oracle=pd.read_csv(held_out / "truth.csv").set_index("patient_id")["risk"])


def permuted(root: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Held-out concordance of teacher and student for each permutation."""
    development, held_out = simulate(root, arguments, 0)
    rows = []
    for i in range(arguments.permutations):
        dealt = data(development, permute_outcomes(development, i))
        table = teacher_and_student(dealt, data(held_out), root / str(i), i, arguments)
        outcome = table["time"].to_numpy(), table["event"].to_numpy()
        rows.append({name: concordance_index(*outcome, table[name].to_numpy()) for name in ("teacher", "student")})
    return rows


def summarise(tables: dict[int, pd.DataFrame]) -> dict:
    """Concordance with interval, and paired differences, by seed."""
    seeds = {}
    for seed, table in tables.items():
        outcome = table["time"].to_numpy(), table["event"].to_numpy()
        risks = {name: table[name].to_numpy() for name in MODELS}
        strata = {"strata": outcome[1]}
        scores = {name: interval(concordance_index, *outcome, risk, **strata) for name, risk in risks.items()}
        pairs = {
            f"{a} - {b}": paired_difference(concordance_index, risks[a], risks[b], *outcome, **strata)
            for a, b in (("teacher", "student"), ("student", "student_undistilled"))
        }
        seeds[str(seed)] = {
            "c_index": {name: {"value": x.value, "low": x.low, "high": x.high} for name, x in scores.items()},
            "paired": {
                name: {"difference": x.estimate, "low": x.low, "high": x.high, "p": x.p} for name, x in pairs.items()
            },
        }
    return seeds


def markdown(result: dict, arguments: argparse.Namespace) -> str:
    """The page of docs/results."""
    size = f"--patients {arguments.patients} --held-out {arguments.held_out}"
    command = f"python benchmarks/simulated_features.py {size} --out docs/results"
    lines = [
        "# On simulated token features",
        "",
        f"Held-out concordance (95 % patient bootstrap), {arguments.patients} development and {arguments.held_out} "
        "held-out patients per seed. `teacher` reads slides and RNA, the students slides alone; `oracle` is the "
        "true risk.",
        "",
        f"    {command}",
    ]
    return "\n".join([*lines, *_seeds(result.get("seeds", {})), *_permuted(result.get("permuted", []))]) + "\n"


def _seeds(seeds: dict) -> list[str]:
    if not seeds:
        return []
    cell = "{value:.3f} ({low:.3f}–{high:.3f})"
    lines = ["", "| seed | " + " | ".join(MODELS) + " |", "|" + "---|" * (len(MODELS) + 1)]
    for seed, row in seeds.items():
        lines.append(f"| {seed} | " + " | ".join(cell.format(**row["c_index"][name]) for name in MODELS) + " |")
    pairs = list(next(iter(seeds.values()))["paired"])
    lines += ["", "| seed | " + " | ".join(pairs) + " |", "|" + "---|" * (len(pairs) + 1)]
    cell = "{difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p:.3f}"
    for seed, row in seeds.items():
        lines.append(f"| {seed} | " + " | ".join(cell.format(**row["paired"][pair]) for pair in pairs) + " |")
    return lines


def _permuted(rows: list[dict[str, float]]) -> list[str]:
    if not rows:
        return []
    lines = [
        "",
        f"Fitted to outcomes that were permuted among the development patients, {len(rows)} times, in the world of "
        "seed 0. "
        "The held-out outcomes are not permuted: they depend on six factors, and a model fitted to chance ranks the "
        "patients along some direction of these factors, sometimes with and sometimes against the risk. A leak would "
        "change the mean.",
        "",
        "| model | mean (95 % interval) | SD of one | dealing by dealing |",
        "|---|---|---|---|",
    ]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        each = ", ".join(f"{value:.2f}" for value in values)
        lines.append(
            f"| {name} | {values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f}) | "
            f"{values.std(ddof=1):.3f} | {each} |"
        )
    return lines


def main() -> None:
    """Run all seeds, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--permutations", type=int, default=10)
    parser.add_argument("--part", choices=("seeds", "permuted"), help="default: both")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = arguments.out / "simulated_features.json"
    result = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if arguments.part != "permuted":
        tables = {}
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as root:
                tables[seed] = one_seed(Path(root), seed, arguments)
        result["seeds"] = summarise(tables)
    if arguments.part != "seeds":
        with tempfile.TemporaryDirectory() as root:
            result["permuted"] = permuted(Path(root), arguments)
    text = markdown(result, arguments)
    print(text)
    record.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "simulated_features.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

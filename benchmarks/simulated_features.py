"""Does the chain hold on known truth? Teacher, student, student without a teacher, and the same under permuted outcomes.

For every seed, cohorts of token features are simulated (development and held-out, other sites and batch), a teacher and
its student are fitted on the development cohort as `dmml fit` does, and tested once on the held-out patients. Prints a
table, and writes `simulated_features.json` and `simulated_features.md`.

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

from dmml.__main__ import main as dmml
from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.coordination import GradientCoordination
from dmml.data.module import MultimodalDataModule
from dmml.evaluation.bootstrap import interval, paired_difference
from dmml.evaluation.metrics import concordance_index
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

MODELS = ("oracle", "teacher", "student", "student_undistilled", "teacher_permuted", "student_permuted")


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
    """Deal the outcomes of the development cohort anew, patient by patient."""
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
    callbacks = [keep, EarlyStopping("val/loss", patience=12), GradientCoordination()]
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


def one_seed(root: Path, patients: int, held_out: int, seed: int, epochs: int, width: int) -> pd.DataFrame:
    """Risks of every model on the held-out patients of one simulated world."""
    size = ["--patients", str(patients), "--held-out", str(held_out), "--seed", str(seed)]
    if dmml(["simulate", str(root / "cohorts"), "--features-only", *size]):
        raise SystemExit("the simulation failed")
    development, tested = root / "cohorts" / "development", data(root / "cohorts" / "held_out")
    truth = pd.read_csv(root / "cohorts" / "held_out" / "truth.csv").set_index("patient_id")
    table = pd.DataFrame({"oracle": truth["risk"]})
    for suffix, clinical in (("", "clinical.csv"), ("_permuted", permute_outcomes(development, seed))):
        teacher = fit(
            SubspaceTeacher(task=Survival(), width=width),
            data(development, clinical),
            root / f"teacher{suffix}",
            seed,
            epochs,
        )
        taught = SubspaceStudent(task=Survival(), teacher=teacher, width=width)
        student = fit(taught, data(development, clinical), root / f"student{suffix}", seed, epochs)
        predicted = test(SubspaceTeacher, teacher, tested)
        table[["time", "event", f"teacher{suffix}"]] = predicted[["time", "event", "risk"]]
        table[f"student{suffix}"] = test(SubspaceStudent, student, tested)["risk"]
    alone = fit(
        SubspaceStudent(task=Survival(), genes={}, width=width), data(development), root / "alone", seed, epochs
    )
    table["student_undistilled"] = test(SubspaceStudent, alone, tested)["risk"]
    return table


def summarise(tables: dict[int, pd.DataFrame]) -> dict:
    """Concordance with interval, seed by seed, and paired differences."""
    result: dict = {"seeds": {}}
    for seed, table in tables.items():
        outcome = table["time"].to_numpy(), table["event"].to_numpy()
        risks = {name: table[name].to_numpy() for name in MODELS}
        strata = {"strata": outcome[1]}
        scores = {name: interval(concordance_index, *outcome, risk, **strata) for name, risk in risks.items()}
        pairs = {
            f"{a} - {b}": paired_difference(concordance_index, risks[a], risks[b], *outcome, **strata)
            for a, b in (("teacher", "student"), ("student", "student_undistilled"))
        }
        result["seeds"][seed] = {
            "c_index": {name: {"value": x.value, "low": x.low, "high": x.high} for name, x in scores.items()},
            "paired": {
                name: {"difference": x.estimate, "low": x.low, "high": x.high, "p": x.p} for name, x in pairs.items()
            },
        }
    return result


def markdown(result: dict, arguments: argparse.Namespace, command: str) -> str:
    """The table as it stands in docs/results."""
    lines = [
        "# On simulated token features",
        "",
        f"Held-out concordance (95 % patient bootstrap), {arguments.patients} development and {arguments.held_out} held-out "
        f"patients a seed. `teacher` sees slides and RNA, the students slides alone; `oracle` is the true risk; "
        "`permuted` models were fitted to outcomes dealt anew.",
        "",
        f"    {command}",
        "",
        "| seed | " + " | ".join(MODELS) + " |",
        "|" + "---|" * (len(MODELS) + 1),
    ]
    cell = "{value:.3f} ({low:.3f}–{high:.3f})"
    for seed, row in result["seeds"].items():
        lines.append(f"| {seed} | " + " | ".join(cell.format(**row["c_index"][name]) for name in MODELS) + " |")
    pairs = list(next(iter(result["seeds"].values()))["paired"])
    lines += ["", "| seed | " + " | ".join(pairs) + " |", "|" + "---|" * (len(pairs) + 1)]
    cell = "{difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p:.3f}"
    for seed, row in result["seeds"].items():
        lines.append(f"| {seed} | " + " | ".join(cell.format(**row["paired"][pair]) for pair in pairs) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all seeds, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    tables = {}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as root:
            tables[seed] = one_seed(
                Path(root), arguments.patients, arguments.held_out, seed, arguments.epochs, arguments.width
            )
    result = summarise(tables)
    command = f"python benchmarks/simulated_features.py --patients {arguments.patients} --held-out {arguments.held_out} --seeds {arguments.seeds}"
    text = markdown(result, arguments, command)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "simulated_features.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "simulated_features.md").write_text(text)


if __name__ == "__main__":
    main()

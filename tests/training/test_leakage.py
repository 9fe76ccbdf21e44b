"""Nothing that is fitted depends on validation or test patients."""

import shutil

import numpy as np
import pandas as pd
import pytest
from cohorts import data_of

from dmml.tasks import Classification, Survival
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


class TrainerWithData:
    """The part of a trainer that `setup` uses."""

    def __init__(self, data):
        self.datamodule = data


def fitted(data, task):
    data.setup("fit")
    module = SubspaceTeacher(width=16, task=task)
    module._trainer = TrainerWithData(data)
    module.setup("fit")
    kept = {name: value for name, value in module.fitted.items() if name not in ("hashes", "patients")}
    return kept | {"task": module.task.init_args(), "genes": module.genes, "n": module.n_features}


def other_values(folder, target, patients):
    """A copy of the cohort in which RNA, outcome and label of some patients are different."""
    shutil.copytree(folder, target)
    table = pd.read_csv(target / "development" / "clinical.csv", dtype={"patient_id": str})
    changed = table.patient_id.isin(patients)
    assert changed.sum() >= len(patients) > 0
    table.loc[changed, "os_days"] = table.loc[changed, "os_days"] * 3 + 5000
    table.loc[changed, "os_event"] = 1 - table.loc[changed, "os_event"]
    table.loc[changed, "grade"] = "G3"
    table.to_csv(target / "development" / "clinical.csv", index=False)
    rna = pd.read_parquet(target / "development" / "expression.parquet")
    rows = rna.patient_id.isin(patients)
    assert rows.any()
    genes = [name for name in rna.columns if name != "patient_id"]
    rna.loc[rows, genes] = (rna.loc[rows, genes] * 50 + 7).astype(np.float32)
    rna.to_parquet(target / "development" / "expression.parquet")
    return target


def split_file(cohort, tmp_path):
    """The folds and the inner validation in files, so that they do not follow from the outcomes."""
    data = data_of(cohort)
    data.setup("fit")
    folder = tmp_path / "splits"
    folder.mkdir()
    columns = {"train": data.patients("train"), "val": data.patients("val"), "test": data.patients("test")}
    pd.DataFrame({name: pd.Series(ids) for name, ids in columns.items()}).to_csv(folder / "splits_0.csv", index=False)
    return str(folder), columns


TASKS = {
    "survival": Survival,
    "survival by quartiles of all times": lambda: Survival(edges_from="all"),
    "classification": lambda: Classification(class_weights="balanced"),
}


@pytest.mark.parametrize("kind", list(TASKS))
def test_values_of_validation_and_test_patients_change_nothing_that_is_fitted(cohort, tmp_path, kind):
    split, parts = split_file(cohort, tmp_path)
    task, is_survival = TASKS[kind], kind != "classification"
    outcome = {"time": "os_days", "event": "os_event", "unit": "days"} if is_survival else {"label": "grade"}
    base = fitted(data_of(cohort, split=split, outcome=outcome), task())
    unseen = other_values(cohort, tmp_path / "unseen", [*parts["val"], *parts["test"]])
    other = fitted(data_of(unseen, split=split, outcome=outcome), task())
    assert other == base  # to the last bit
    # The same change in training patients is seen: the comparison above can fail.
    seen = fitted(
        data_of(other_values(cohort, tmp_path / "seen", parts["train"][:4]), split=split, outcome=outcome), task()
    )
    for s in ("tumor", "tme"):
        assert seen["gene_statistics"][s]["mean"] != base["gene_statistics"][s]["mean"]
    if is_survival:
        assert seen["task"]["edges"] != base["task"]["edges"]
        assert seen["censoring"] != base["censoring"]
        assert seen["task"]["end"] != base["task"]["end"]
        assert len(base["horizons"]) >= 1
    else:
        assert seen["task"]["class_weights"] != base["task"]["class_weights"]


def test_the_parts_of_a_split_are_disjoint_and_reproducible(cohort):
    first, again = data_of(cohort), data_of(cohort)
    first.setup("fit")
    again.setup("fit")
    parts = [set(first.patients(part)) for part in ("train", "val", "test")]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert all(first.patients(part) == again.patients(part) for part in ("train", "val", "test"))

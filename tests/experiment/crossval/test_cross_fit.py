"""Cross-fitting: the targets of each training patient come from a teacher that was fitted without the patient."""

import json

import pandas as pd
import pytest
import torch
from crossvals import run, write_config

from dmml.errors import InputError
from dmml.experiment.crossval.fit import build_data
from dmml.training.checkpointing.seen_patients import patients_among
from dmml.training.losses.cross_fitted_teachers import CrossFittedTeachers
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    """One fold of a cross-fitted student, beside one that is not."""
    root = tmp_path_factory.mktemp("cross_fit")
    config = write_config(root / "t.yaml", cohort)
    args = ("--config", config, "--models", "student", "--only-fold", 0)
    run(*args, "--cross-fit", "--out", root / "crossed")
    run(*args, "--out", root / "plain")
    return root, args


def kept(folder):
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]


def test_every_training_patient_is_left_out_by_one_teacher_and_test_patients_by_all(cohort, done):
    root, _ = done
    fold = root / "crossed" / "fold_0"
    clinical = pd.read_csv(cohort / "clinical.csv", dtype=str)["patient_id"].drop_duplicates().tolist()
    whole = set(patients_among(clinical, kept(fold / "teacher")["fitted"]["patients"]["train"]))
    left_out = []
    for i in range(3):
        parts = kept(fold / f"teacher_without_{i}")["fitted"]["patients"]
        seen = set(patients_among(clinical, parts["train"]))
        assert seen < whole
        left_out += sorted(whole - seen)
    assert sorted(left_out) == sorted(whole)
    tested = set(pd.read_csv(fold / "student" / "predictions.csv")["patient_id"])
    assert not tested & whole
    before = kept(fold / "student")["fitted"]["patients"]["before"].values()
    assert len(before) == 4, "the fold's own teacher, and those that left a part out"
    assert set().union(*(patients_among(clinical, parts["train"]) for parts in before)) == whole


def test_all_teachers_have_the_same_intervals_and_gene_statistics(done):
    root, _ = done
    base, *others = (
        kept(root / "crossed" / "fold_0" / name)
        for name in ("teacher", "teacher_without_0", "teacher_without_1", "teacher_without_2")
    )
    for other in others:
        assert other["task"]["init_args"]["edges"] == base["task"]["init_args"]["edges"]
        assert other["task"]["init_args"]["end"] == base["task"]["init_args"]["end"]
        assert other["fitted"]["gene_statistics"] == base["fitted"]["gene_statistics"]
        assert other["fitted"]["n_training"] < base["fitted"]["n_training"]


def test_cross_fitting_changes_the_student_and_no_model_before_it(done):
    root, args = done
    plain, crossed = (root / name / "fold_0" for name in ("plain", "crossed"))
    read = [pd.read_csv(folder / "teacher" / "predictions.csv")["risk"] for folder in (plain, crossed)]
    assert read[0].tolist() == read[1].tolist()
    # The backbone is copied from the fold's own teacher; cross-fitted teachers teach the deep part.
    states = [
        torch.load(folder / "student" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for folder in (plain, crossed)
    ]
    assert not torch.equal(*(state["projection.10x.linear.weight"] for state in states))
    for name in (name for name in states[0] if name.startswith("backbone.")):
        assert torch.equal(*(state[name] for state in states)), name
    assert not list(plain.glob("teacher_without_*"))
    assert json.loads((root / "crossed" / "plan.json").read_text())["cross_fit"] is True
    with pytest.raises(InputError, match="cross_fit"):
        run(*args, "--out", root / "crossed")


def test_a_patients_targets_come_from_the_teacher_that_left_the_patient_out(done):
    root, _ = done
    fold = root / "crossed" / "fold_0"
    paths = [fold / f"teacher_without_{i}" / "checkpoints" / "best.ckpt" for i in range(3)]
    section = json.loads((root / "crossed" / "plan.json").read_text())["data"]
    data = build_data(section | {"fold": 0})
    data.turn_to(data.read(), 0)
    teachers = CrossFittedTeachers(paths, data.patients)
    student = SubspaceStudent.load_from_checkpoint(fold / "student" / "checkpoints" / "best.ckpt", weights_only=True)
    data.trainer = type("Trainer", (), {"lightning_module": student})()
    batch = next(iter(data.train_patients_in_order()))
    targets = teachers(batch)
    for i, path in enumerate(paths):
        alone = SubspaceTeacher.load_from_checkpoint(path, weights_only=True).eval()
        unseen = set(batch.patient_id) - set(
            patients_among(batch.patient_id, kept(fold / f"teacher_without_{i}")["fitted"]["patients"]["train"])
        )
        assert unseen
        rows = [batch.patient_id.index(patient) for patient in unseen]
        with torch.no_grad():
            expected = alone(batch)
        torch.testing.assert_close(targets.logits[rows], expected.logits[rows])
        for key, values in expected.programs.items():
            torch.testing.assert_close(targets.programs[key][rows], values[rows])
    with pytest.raises(InputError, match="were in the training of every teacher"):
        CrossFittedTeachers(paths[:1], data.patients)


def test_cross_fitting_needs_a_student(cohort, done):
    root, _ = done
    config = write_config(root / "rna.yaml", cohort, features=None)
    with pytest.raises(InputError, match="--cross-fit: no student"):
        run("--config", config, "--cross-fit", "--out", root / "rna")

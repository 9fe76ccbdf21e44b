"""The models of a cross-validation are paths in its folder, all of them or none."""

import pytest

from dmml.errors import InputError
from dmml.experiment.fold_models.checkpoints import checkpoints_of, is_crossval

RUNS = ("fold_0", "fold_1", "fold_1/seed_1", "repeat_1/fold_0", "repeat_1/fold_0/seed_1")


@pytest.fixture
def crossval(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    for run in RUNS:
        for model in ("student", "teacher"):
            (tmp_path / run / model / "checkpoints").mkdir(parents=True)
            (tmp_path / run / model / "checkpoints" / "best.ckpt").write_bytes(b"")
            (tmp_path / run / model / "done.json").write_text("{}")
        (tmp_path / run / "rna_linear").mkdir()
    return tmp_path


@pytest.mark.parametrize(("model", "name"), [(None, "student"), ("teacher", "teacher"), ("student", "student")])
def test_all_folds_repeats_and_seeds_are_found(crossval, model, name):
    assert is_crossval(crossval)
    paths = checkpoints_of(crossval, model)
    assert sorted(str(path.relative_to(crossval)) for path in paths) == sorted(
        f"{run}/{name}/checkpoints/best.ckpt" for run in RUNS
    )


def test_a_model_that_is_not_finished_in_a_fold_is_refused(crossval):
    (crossval / "fold_1" / "student" / "done.json").unlink()
    with pytest.raises(InputError, match="student is not finished in fold_1; run the same `dmml crossval` again"):
        checkpoints_of(crossval)
    assert checkpoints_of(crossval, "teacher")


@pytest.mark.parametrize("model", ["rna_linear", "nobody"])
def test_a_model_without_checkpoints_is_refused_with_a_choice(crossval, model):
    with pytest.raises(InputError, match=f"no model '{model}'; give one of student, teacher with --crossval-model"):
        checkpoints_of(crossval, model)


def test_a_folder_without_models_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="has no student and no teacher"):
        checkpoints_of(tmp_path)
    assert not is_crossval(tmp_path / "fold_0")

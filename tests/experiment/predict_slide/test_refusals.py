"""Checkpoints and slides that do not fit each other are refused in one line."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.load_model import load_encoder_of, load_model
from dmml.experiment.predict_slide.input import check_input

pytestmark = pytest.mark.slow


def fitted(models, name: str) -> dict:
    return torch.load(models.best(name), weights_only=True)["hyper_parameters"]["fitted"]


def test_an_encoder_with_other_weights_is_refused_with_both_hashes(models, tmp_path):
    old = fitted(models, "student")
    path = models.changed(
        "student", tmp_path / "c.ckpt", fitted=old | {"encoder": old["encoder"] | {"weights": "ab" * 32}}
    )
    with pytest.raises(InputError, match="abababababab") as refused:
        load_encoder_of(load_model(path))
    assert old["encoder"]["weights"][:12] in str(refused.value)
    assert "--weights" in str(refused.value)


def test_an_encoder_with_other_preprocessing_is_refused(models, tmp_path):
    old = fitted(models, "student")
    other = old["encoder"]["preprocessing"] | {"mean": [0.1, 0.1, 0.1]}
    path = models.changed(
        "student", tmp_path / "c.ckpt", fitted=old | {"encoder": old["encoder"] | {"preprocessing": other}}
    )
    with pytest.raises(InputError, match="preprocessing"):
        load_encoder_of(load_model(path))


def test_the_encoder_of_the_checkpoint_is_accepted(models):
    model = load_model(models.best("student"))
    assert load_encoder_of(model).identity == model.encoder


@pytest.mark.parametrize(
    "name", ["torch.nn.Linear", "os.system", "gone.module.Student", "Student", "dmml.training.student.Gone"]
)
def test_a_class_that_is_no_model_of_dmml_is_refused(models, tmp_path, name):
    path = models.changed("student", tmp_path / "c.ckpt", _class_path=name)
    with pytest.raises(InputError, match=name):
        load_model(path)


def test_a_checkpoint_cannot_choose_its_instantiator(models, tmp_path):
    path = models.changed("student", tmp_path / "c.ckpt", _instantiator="os.system")
    with pytest.raises(InputError, match=r"its _instantiator is os\.system"):
        load_model(path)


def test_a_class_of_the_users_own_is_loaded(models, tmp_path, monkeypatch):
    (tmp_path / "own_student.py").write_text(
        "from dmml import SubspaceStudent\n\n\nclass Mine(SubspaceStudent):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = load_model(models.changed("student", tmp_path / "c.ckpt", _class_path="own_student.Mine"))
    assert type(model.module).__name__ == "Mine"
    assert not model.module.training


@pytest.mark.parametrize("key", ["_class_path", "task"])
def test_code_in_the_folder_of_the_checkpoint_is_not_run(models, tmp_path, monkeypatch, key):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "received").mkdir()
    (tmp_path / "received" / "evil.py").write_text("from pathlib import Path\n\nPath('ran').touch()\n")
    named = "received.evil.Mine" if key == "_class_path" else {"class_path": "received.evil.Mine", "init_args": {}}
    path = models.changed("student", tmp_path / "received" / "c.ckpt", **{key: named})
    with pytest.raises(InputError, match=r"names the class received\.evil\.Mine, whose code lies in the same folder"):
        load_model(path)
    assert not (tmp_path / "ran").exists()
    assert "received.evil" not in sys.modules


def test_a_model_that_reads_no_slides_is_refused(models, tmp_path):
    path = models.changed("teacher", tmp_path / "c.ckpt", n_features=0)
    with pytest.raises(InputError, match="without slides"):
        load_model(path)


def test_weights_that_do_not_fit_the_class_are_refused(models, tmp_path):
    path = models.changed("student", tmp_path / "c.ckpt", width=24)
    with pytest.raises(InputError, match="does not fit SubspaceStudent") as refused:
        load_model(path)
    assert "\n" not in str(refused.value)


def test_a_slide_too_coarse_for_the_model_is_refused(models, tmp_path, capsys):
    argv = [
        "predict-slide",
        models.plain,
        "--mpp",
        "2",
        "--ckpt_path",
        models.best("grade"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "too coarse" in message
    assert "20x" in message
    assert not (tmp_path / "o").exists()


def test_slides_of_the_same_name_and_unusable_slides_are_refused(models, tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (300, 300)).save(tmp_path / "a" / "histo_500x300.png")
    with pytest.raises(InputError, match="have the same name"):
        check_input([models.plain, tmp_path / "a" / "histo_500x300.png"], tmp_path / "o", mpp=0.5)
    Image.new("RGB", (300, 300)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="1 more of the 2 slides cannot be used either"):
        check_input([models.plain, tmp_path / "b.png"], tmp_path / "o")


def test_each_slide_is_a_patient_unless_all_belong_to_one(models, tmp_path):
    cases = check_input([models.plain, models.svs], tmp_path / "o", mpp=0.5)
    assert [case.folder.name for case in cases] == ["histo_500x300", "cmu_small_region"]
    [case] = check_input([models.plain, models.svs], tmp_path / "o", mpp=0.5, one_patient=True)
    assert [path.name for path in case.slides] == ["histo_500x300.jpg", "cmu_small_region.svs"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_input([models.svs], tmp_path / "file")
    with pytest.raises(InputError, match="--weights"):
        check_input([models.svs], tmp_path / "o", weights=tmp_path / "gone.pt")

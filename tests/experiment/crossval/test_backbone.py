"""`backbone: null` in the model section reaches every model of a fit and of a cross-validation."""

import pytest
import torch
from crossvals import run, write_config

from dmml.__main__ import main
from dmml.networks.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

MODELS = ("teacher", "student", "student_undistilled")


def backbones(folder):
    """{model: whether its checkpoint has a backbone}."""
    has_backbone = {}
    for path in sorted(folder.glob("*/checkpoints/best.ckpt")):
        state = read_checkpoint(path)["state_dict"]
        has_backbone[path.parent.parent.name] = any(name.startswith("backbone.") for name in state)
    return has_backbone


@pytest.mark.parametrize(("model", "has"), [({}, True), ({"backbone": None}, False)])
def test_one_line_removes_the_backbone_from_all_models_of_a_cross_validation(cohort, tmp_path, model, has):
    config = write_config(tmp_path / "c.yaml", cohort, model=model)
    run("--config", config, "--models", ",".join(MODELS), "--out", tmp_path / "out", "--only-fold", 0)
    has_backbone = backbones(tmp_path / "out" / "fold_0")
    assert set(has_backbone) == set(MODELS)
    assert set(has_backbone.values()) == {has}


def test_a_student_uses_the_backbone_of_its_folds_teacher_and_the_undistilled_one_fits_another(cohort, tmp_path):
    config = write_config(tmp_path / "c.yaml", cohort)
    run("--config", config, "--models", ",".join(MODELS), "--out", tmp_path / "out", "--only-fold", 0)
    states = {
        name: read_checkpoint(tmp_path / "out" / "fold_0" / name / "checkpoints" / "best.ckpt")["state_dict"]
        for name in MODELS
    }
    names = [name for name in states["student"] if name.startswith("backbone.")]
    assert all(torch.equal(states["teacher"][name], states["student"][name]) for name in names)

    def reads_subspaces(state):
        """Whether the RNA predicted from slides affects the output: its two columns come before the tissue's."""
        weights = [state[name] for name in state if "readouts.slide" in name and name.endswith("weight")]
        return any(weight[:, :2].any() for weight in weights)

    assert reads_subspaces(states["student"])
    assert not reads_subspaces(states["student_undistilled"])


def test_one_line_removes_the_backbone_from_a_fit_and_options_of_the_backbone_are_arguments(cohort, tmp_path):
    for name, model in (
        ("none", {"backbone": None}),
        (
            "options",
            {
                "backbone": {
                    "class_path": "dmml.backbone.backbone.Backbone",
                    "init_args": {"components": 2, "clusters": 3},
                }
            },
        ),
    ):
        config = write_config(tmp_path / f"{name}.yaml", cohort, model=model)
        assert main(["fit", "--config", str(config)]) == 0
        state = read_checkpoint(tmp_path / "runs" / name / "checkpoints" / "best.ckpt")["state_dict"]
        assert ("deep_share" in state) is (name == "options")
        if name == "options":
            assert len(state["backbone.statistics.10x.centres"]) == 3

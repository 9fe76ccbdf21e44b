"""A student with a backbone is resumed exactly, and averaging weights leaves fitted and chosen buffers alone."""

import pandas as pd
import pytest
import torch
from interrupted_fits import Kill, Killed, differences, outcome, run

from dmml.callbacks.weight_average import EMA
from dmml.training import deep_share
from dmml.training.student import SubspaceStudent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(cohort, tmp_path_factory):
    """Checkpoint of a teacher with a backbone."""
    folder = tmp_path_factory.mktemp("teacher")
    run(cohort, folder, epochs=1)
    return str(folder / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(("hook", "at"), [("on_train_batch_end", 8), ("on_validation_end", 2)])
@pytest.mark.parametrize("taught", [True, False])
def test_a_student_with_a_backbone_is_resumed_exactly(cohort, tmp_path, teacher, hook, at, taught):
    def student(**arguments):
        return SubspaceStudent(**arguments, teacher=teacher if taught else None)

    run(cohort, tmp_path / "whole", kind=student)
    with pytest.raises(Killed):
        run(cohort, tmp_path / "killed", Kill(hook, at), kind=student)
    run(cohort, tmp_path / "killed", kind=student, resume=True)
    assert differences(outcome(tmp_path / "killed"), outcome(tmp_path / "whole")) == []
    state = outcome(tmp_path / "whole")["last"][0]
    weights = [state[name] for name in state if "backbone.readouts.slide" in name and name.endswith("weight")]
    assert any(bool(weight[:, :2].any()) for weight in weights) is taught  # the two subspaces' columns


@pytest.mark.parametrize("confidence", [0.995, 0.0])
def test_averaged_weights_are_saved_with_the_share_chosen_for_them(cohort, tmp_path, monkeypatch, confidence):
    """At a confidence of 0 the best share is chosen, however small its gain."""
    monkeypatch.setattr(deep_share, "CONFIDENCE", confidence)
    trainer = run(cohort, tmp_path, epochs=2, extra=[EMA(decay=0.5)])
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    table = pd.read_csv(tmp_path / "metrics.csv").dropna(subset="val/deep_share").set_index("epoch")
    assert best["state_dict"]["deep_share"].item() == table.loc[best["epoch"], "val/deep_share"]
    module = trainer.lightning_module
    assert module.deep_share.item() == table["val/deep_share"].iloc[-1]
    current = best["current_model_state"]
    backbone = [name for name in current if name.startswith("backbone.")]
    assert all(torch.equal(best["state_dict"][name], current[name]) for name in backbone)
    assert not torch.equal(best["state_dict"]["heads.10x.linear.weight"], current["heads.10x.linear.weight"])

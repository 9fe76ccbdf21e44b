"""Another optimiser and another learning-rate schedule by class path in YAML."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from dmml.__main__ import main

pytestmark = pytest.mark.slow

SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}
HALVED = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}}
PLATEAU = {
    "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
    "init_args": {"monitor": "val/loss", "patience": 0, "factor": 0.1, "threshold": 0.0},
}


def state_of(checkpoint: dict) -> dict:
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    return group


def test_a_model_fitted_with_sgd_and_steps_is_tested_and_resumed(cohorts, capsys, kill_fit):
    model, trainer = {"optimizer": SGD, "lr_scheduler": HALVED}, {"max_epochs": 3}
    config = str(cohorts.config("sgd", "SubspaceTeacher", model=model, trainer=trainer))
    assert main(["fit", "--config", config]) == 0
    last = torch.load(cohorts.run("sgd") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state_of(last)["momentum"] == 0.9
    assert state_of(last)["lr"] == pytest.approx(0.01 * 0.5**3)
    assert last["hyper_parameters"]["optimizer"]["class_path"] == SGD["class_path"]
    held = str(cohorts.config("sgd_held_out", cohort="held_out"))
    assert main(["test", "--ckpt_path", cohorts.best("sgd"), "--config", held]) == 0
    assert (cohorts.run("sgd") / "test" / "held_out" / "predictions.csv").is_file()

    config = str(cohorts.config("sgd_cut", "SubspaceTeacher", model=model, trainer=trainer))
    kill_fit(config)
    assert main(["fit", "--config", config, "--resume"]) == 0
    resumed = torch.load(cohorts.run("sgd_cut") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state_of(resumed)["lr"] == state_of(last)["lr"]
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in last["state_dict"].items())


def test_a_schedule_may_follow_a_metric(cohorts):
    config = cohorts.config(
        "plateau", "SubspaceTeacher", model={"optimizer": SGD, "lr_scheduler": PLATEAU}, trainer={"max_epochs": 3}
    )
    assert main(["fit", "--config", str(config)]) == 0
    loss = pd.read_csv(cohorts.run("plateau") / "metrics.csv")["val/loss"].dropna()
    no_better = int((loss.iloc[1:].to_numpy() >= loss.cummin().iloc[:-1].to_numpy()).sum())
    last = torch.load(cohorts.run("plateau") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state_of(last)["lr"] == pytest.approx(0.01 * 0.1**no_better)


def test_a_config_with_only_another_schedule_keeps_adamw(cohorts):
    config = cohorts.config(
        "adamw", "SubspaceStudent", model={"lr_scheduler": HALVED, "lr": 0.004}, trainer={"max_epochs": 2}
    )
    assert main(["fit", "--config", str(config)]) == 0
    last = torch.load(cohorts.run("adamw") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state_of(last)["betas"] == (0.9, 0.999)
    assert state_of(last)["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"optimizer": SGD, "lr": 0.1}, "model.lr: 0.1 has no effect, because model.optimizer replaces"),
        ({"optimizer": SGD, "tissue_weight_decay": None}, "model.tissue_weight_decay: None has no effect"),
        ({"lr_scheduler": HALVED, "warmup": 0.3}, "model.warmup: 0.3 has no effect, because model.lr_scheduler"),
    ],
)
def test_an_argument_without_effect_is_refused(cohorts, capsys, model, message):
    config = cohorts.config("no_effect", "SubspaceTeacher", model=model)
    capsys.readouterr()
    assert main(["fit", "--config", str(config)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert message in lines[0]

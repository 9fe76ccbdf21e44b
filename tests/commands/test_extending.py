"""A fusion, a task and a callback of the user's own, in the user's folder, by class path in YAML."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dmml.__main__ import main

pytestmark = pytest.mark.slow

FUSION = '''
import torch
from dmml.nn.fusion import Fusion


class MeanFusion(Fusion):
    """Plain mean of the tokens, times a factor of the condition."""

    def __init__(self, width: int, scale: float = 1.0):
        super().__init__(width)
        self.scale = scale
        self.turn = torch.nn.Linear(width, width)

    def forward(self, tokens, bag, condition):
        weight = bag.mask.float() / bag.mask.sum(1, keepdim=True).clamp_min(1)
        return self.scale * self.turn((weight.unsqueeze(-1) * tokens).sum(1)) * condition.sigmoid(), weight
'''

TASK = '''
import torch
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric
from dmml.tasks import Task


class LogDays(Task):
    """Predicts log days by least squares, whatever became of the patient: a task no one should use, but a whole one."""

    kind = "log_days"
    n_outputs = 1
    outcome = ("time", "event")

    def __init__(self, mean: float | None = None, combination: str = "mean"):
        super().__init__(combination)
        self.mean = mean

    def fit(self, outcome):
        if self.mean is None:
            self.mean = float(torch.as_tensor(outcome["time"]).double().log().mean())

    def init_args(self):
        return {"mean": self.mean, "combination": self.combination}

    def encode(self, outcome):
        time = torch.as_tensor(outcome["time"]).float()
        return {"time": time, "event": torch.as_tensor(outcome["event"]).float(), "observed": ~time.isnan()}

    def loss(self, logits, target):
        return (logits[:, 0] + self.mean - target["time"].log()).square() * target["observed"]

    def log_likelihood(self, logits, target):
        return -0.5 * self.loss(logits, target)

    def mean_prediction(self, logits, log_weight):
        weight = log_weight.exp()
        return (logits * weight.unsqueeze(-1)).sum(0) / weight.sum(0).unsqueeze(-1)

    def metrics(self):
        return MetricCollection({"seen": Count()})

    def predictions(self, logits):
        return {"risk": -logits[:, 0].double()}


class Count(MeanMetric):
    def update(self, logits, target):
        super().update(float(len(logits)))
'''

CALLBACK = '''
from lightning.pytorch import Callback
from dmml.types import HasSubspaces


class HeadNorms(Callback):
    """Logs how large each subspace's part of a head is; knows the model through HasSubspaces alone."""

    def __init__(self, word: str = "norm"):
        self.word = word

    def on_train_epoch_end(self, trainer, pl_module):
        assert isinstance(pl_module, HasSubspaces)
        for i, (weight, tumor, tme) in enumerate(pl_module.subspace_heads()):
            pl_module.log(f"{self.word}/tumor_{i}", weight[:, tumor].norm())
            pl_module.log(f"{self.word}/tme_{i}", weight[:, tme].norm())
'''


@pytest.fixture
def my_folder(tmp_path, monkeypatch) -> Path:
    """A user's folder with three modules; it is the working directory."""
    for name, text in (("my_fusion", FUSION), ("my_task", TASK), ("my_callback", CALLBACK)):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_task_without_a_linear_likelihood_is_refused_with_the_way_out(my_folder, cohorts, capsys):
    config = cohorts.config("no", "SubspaceTeacher", model={"task": {"class_path": "my_task.LogDays"}})
    assert main(["fit", "--config", str(config)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert sum("the task LogDays has no linear_likelihood" in line for line in lines) == 1
    assert "backbone: null in the model section" in lines[-1]


def test_a_cross_validation_of_such_a_task_is_refused_before_a_network_is_fitted(my_folder, cohorts, capsys):
    task = {"class_path": "my_task.LogDays"}
    config = cohorts.config(
        "no_folds", "SubspaceTeacher", model={"task": task, "backbone": None}, data={"split": {"folds": 2}}
    )
    assert main(["crossval", "--config", str(config), "--models", "teacher,rna_linear"]) == 2
    assert "name other models with --models" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(cohorts.run("no_folds_crossval").rglob("done.json"))


def test_custom_classes_run_by_class_path(my_folder, cohorts):
    config = cohorts.config(
        "own",
        "SubspaceTeacher",
        model={
            "fusion": {"class_path": "my_fusion.MeanFusion", "init_args": {"scale": 0.5}},
            "task": {"class_path": "my_task.LogDays"},
            "backbone": None,  # the task has no likelihood of a linear predictor
        },
        trainer={"callbacks": [{"class_path": "my_callback.HeadNorms", "init_args": {"word": "size"}}]},
    )
    assert main(["fit", "--config", str(config)]) == 0
    assert "size/tumor_0" in (cohorts.run("own") / "metrics.csv").read_text().splitlines()[0]
    held = cohorts.config("own_held", cohort="held_out")
    assert main(["test", "--ckpt_path", cohorts.best("own"), "--config", str(held)]) == 0
    assert (cohorts.run("own") / "test" / "held_out" / "predictions.csv").is_file()
    hparams = torch.load(cohorts.best("own"), weights_only=True)["hyper_parameters"]
    assert hparams["fusion"] == {"class_path": "my_fusion.MeanFusion", "init_args": {"scale": 0.5}}
    assert hparams["task"]["init_args"]["mean"] > 0

"""Which weights AdamW pulls towards 0, and how strongly; how the rate rises and falls."""

import math

import pytest
from cohorts import data_of
from lightning.pytorch import Callback, Trainer
from models import PROGRAMS, build

from dmml.training.teacher import SubspaceTeacher


@pytest.mark.parametrize(("weight_decay", "expected"), [(None, 0.01), (10.0, 10.0), (0.0, 0.0)])
def test_layers_between_tissue_and_programs_have_a_separate_weight_decay(weight_decay, expected):
    model = build("teacher", "survival", programs=PROGRAMS, tissue_weight_decay=weight_decay)
    assert any(name.startswith("embed.") for name, _ in model.named_parameters())
    optimizer = model.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (expected if name.startswith("embed.") else 0.01)


def test_layers_that_read_tissue_directly_have_the_general_weight_decay():
    optimizer = build("teacher", "survival", programs=None).configure_optimizers()
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}


class Rates(Callback):
    """Records the learning rate of each step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (18, {"max_epochs": 3}),  # 16 patients in threes: six batches an epoch
        (6, {"max_epochs": 3, "accumulate_grad_batches": 4}),  # of four and of two
        (10, {"max_epochs": 5, "limit_train_batches": 2}),
        (6, {"max_epochs": 2, "limit_train_batches": 0.5}),
        (3, {"max_epochs": 3, "limit_train_batches": 3, "accumulate_grad_batches": 3}),
        (7, {"max_steps": 7}),
    ],
)
def test_the_rate_rises_and_falls_over_the_true_number_of_steps(cohort, tmp_path, steps, options):
    rates = Rates()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = Trainer(
        **options, **quiet, callbacks=[rates], accelerator="cpu", num_sanity_val_steps=0, default_root_dir=tmp_path
    )
    trainer.fit(SubspaceTeacher(width=16, lr=0.01, warmup=0.25), data_of(cohort, batch_size=3))
    assert trainer.global_step == len(rates.seen) == steps
    rise = max(1, round(0.25 * steps))
    up = [0.01 * (step + 1) / rise for step in range(rise)]
    down = [0.005 * (1 + math.cos(math.pi * step / (steps - rise))) for step in range(steps - rise)]
    assert rates.seen == pytest.approx(up + down)

"""Gradient coordination as a callback: any split of a batch, any model with subspaces, either scope."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cohorts import data_of
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dmml.callbacks.coordination import GradientCoordination
from dmml.errors import InputError
from dmml.functional.coordination import coordinate
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "enable_checkpointing": False,
}


class Tiny(LightningModule):
    """A minimal model with subspaces: one projection, one head, and tumor and TME columns of a linear classifier."""

    def __init__(self, accumulate: int = 1):
        super().__init__()
        torch.manual_seed(0)
        self.project, self.head = nn.Linear(6, 4), nn.Linear(8, 3, bias=False)
        self.branch = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.sums, self.rule, self.accumulate = torch.zeros(1, 5), None, accumulate

    def forward(self, x):
        from dmml.nn.projection import fork

        tokens = self.project(x).unsqueeze(1)  # (B, 1, d)
        z = [layer(t.squeeze(1)).tanh() for layer, t in zip(self.branch, fork(tokens, self.rule), strict=True)]
        return [part @ self.head.weight[:, s].T for part, s in zip(z, (slice(0, 4), slice(4, 8)), strict=True)]

    def training_step(self, batch, batch_idx):
        x, y = batch
        parts = self(x)
        logs = [part.detach().log_softmax(1).gather(1, y[:, None]).squeeze(1) for part in parts]
        count = torch.tensor(float(len(y)))
        self.sums = self.sums + torch.stack([*[v.sum() for v in logs], *[v.exp().sum() for v in logs], count])
        return nn.functional.cross_entropy(sum(parts), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)

    def subspace_heads(self):
        yield self.head.weight, slice(0, 4), slice(4, 8)

    def take_confidence(self):
        sums, self.sums = self.sums, torch.zeros(1, 5)
        return sums

    def set_shared_rule(self, rule):
        self.rule = rule


def loader(batch_size, n=64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=generator)
    y = torch.randint(0, 3, (n,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=batch_size)


def train(callbacks, batch_size=16, accumulate=1, **more):
    model = Tiny()
    trainer = Trainer(max_epochs=2, accumulate_grad_batches=accumulate, callbacks=callbacks, **QUIET | more)
    trainer.fit(model, loader(batch_size))
    return model, trainer


def distance(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("confidence", ["likelihood", "probability"])
@pytest.mark.parametrize("rule", ["project", "reflect"])
def test_the_split_into_micro_batches_does_not_matter(rule, confidence):
    def with_rule():
        return [GradientCoordination(rule=rule, confidence=confidence)]

    whole, trainer = train(with_rule())
    assert distance(whole, train([])[0]) > 1e-3, "there were conflicts, and they were coordinated"
    assert distance(whole, train(with_rule(), 8, 2)[0]) < 1e-6
    assert distance(whole, train(with_rule(), 4, 4)[0]) < 1e-6
    logged = {name for name in trainer.callback_metrics if name.startswith("coordination/")}
    assert logged == {f"coordination/{x}" for x in ("conflict", "cosine", "confidence_tumor", "confidence_tme")}
    assert 0 < trainer.callback_metrics["coordination/conflict"] <= 1
    assert 0 < trainer.callback_metrics["coordination/confidence_tme"] < 1


def test_one_step_applies_coordinate_to_the_accumulated_gradient():
    reference, (x, y) = Tiny(), next(iter(loader(64)))
    loss = nn.functional.cross_entropy(sum(reference(x)), y)
    loss.backward()
    logs = [p.log_softmax(1).gather(1, y[:, None]).mean().exp() for p in reference(x)]
    gradient = reference.head.weight.grad
    tumor, tme, conflict = coordinate(gradient[:, :4], gradient[:, 4:], *logs)
    expected = reference.head.weight - 0.5 * torch.cat([tumor, tme], 1)
    model = Tiny()
    Trainer(max_steps=1, callbacks=[GradientCoordination()], **QUIET).fit(model, loader(64))
    assert conflict.any()
    torch.testing.assert_close(model.head.weight, expected)
    torch.testing.assert_close(model.project.weight, reference.project.weight - 0.5 * reference.project.weight.grad)


def test_gradients_are_clipped_after_coordination():
    model, _ = train([GradientCoordination()], gradient_clip_val=1e-3)
    start = Tiny()
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), start.parameters(), strict=True)])
    assert 0 < moved.norm() <= 8 * 0.5 * 1e-3 * 1.01


def test_the_shared_scope_changes_gradients_and_nothing_else():
    plain, shared = train([])[0], train([GradientCoordination(scope="shared")])
    assert distance(plain, shared[0]) > 1e-4
    assert {"coordination/conflict", "coordination/cosine"} <= set(shared[1].callback_metrics)
    assert shared[0].rule is None, "the model is left as it was"
    one = Tiny()
    Trainer(max_steps=1, callbacks=[GradientCoordination(scope="shared")], **QUIET).fit(one, loader(64))
    none = Tiny()
    Trainer(max_steps=1, **QUIET).fit(none, loader(64))
    assert distance(one, none) == 0, "no confidence is known at the first step"
    ruled = copy.deepcopy(none)
    ruled.rule = lambda a, b: (a * 0, b * 3)
    x, _ = next(iter(loader(8)))
    assert all(torch.equal(a, b) for a, b in zip(ruled(x), none(x), strict=True)), "the forward pass is the same"


def test_the_shared_scope_applies_coordinate_patient_by_patient():
    model, (x, y) = Tiny(), next(iter(loader(16)))
    callback = GradientCoordination(scope="shared")
    callback._previous = torch.tensor([0.2, 0.6])
    seen = []
    model.rule = lambda a, b: seen.append((a, b)) or (a, b)
    nn.functional.cross_entropy(sum(model(x)), y).backward()
    (tumor, tme), plain = seen[0], model.project.weight.grad.clone()
    expected, same, conflict = coordinate(tumor.flatten(1), tme.flatten(1), 0.2, 0.6)
    assert conflict.any()
    model.zero_grad()
    model.rule = callback._coordinate_shared
    nn.functional.cross_entropy(sum(model(x)), y).backward()
    torch.testing.assert_close(model.project.weight.grad, (expected + same).T @ x)
    assert not torch.allclose(model.project.weight.grad, plain)


def test_the_confidences_of_the_shared_scope_survive_a_restart():
    callback = GradientCoordination(scope="shared")
    assert callback.state_dict() == {}
    callback._previous = torch.tensor([0.25, 0.5])
    resumed = GradientCoordination(scope="shared")
    resumed.load_state_dict(callback.state_dict())
    assert resumed._previous.tolist() == [0.25, 0.5]


def test_a_resumed_run_is_identical(tmp_path):
    def trainer(epochs):
        return Trainer(max_epochs=epochs, callbacks=[GradientCoordination(scope="shared")], **QUIET)

    whole, first, resumed = Tiny(), Tiny(), Tiny()
    trainer(2).fit(whole, loader(16))
    half = trainer(1)
    half.fit(first, loader(16))
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(2).fit(resumed, loader(16), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert distance(whole, resumed) == 0


def test_unsuitable_models_and_trainers_are_refused_with_the_reason():
    class Plain(LightningModule):
        training_step, configure_optimizers = Tiny.training_step, Tiny.configure_optimizers

    class Manual(Tiny):
        automatic_optimization = False

    class FSDPStrategy:
        pass

    class Sharded:
        strategy = FSDPStrategy()

    for arguments in ({"scope": "everywhere"}, {"rule": "mirror"}, {"confidence": "guess"}):
        with pytest.raises(ValueError, match=next(iter(arguments.values()))):
            GradientCoordination(**arguments)

    def fit(model, **more):
        Trainer(max_epochs=1, callbacks=[GradientCoordination()], **QUIET | more).fit(model, loader(16))

    with pytest.raises(InputError, match="manual optimisation"):
        fit(Manual())
    with pytest.raises(InputError, match="Plain"):
        fit(Plain())
    with pytest.raises(InputError, match="FSDPStrategy"):
        GradientCoordination().setup(Sharded(), Tiny(), "fit")

    class Fused(Tiny):
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), fused=True)

    half = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(InputError, match="fused"):
        fit(Fused(), plugins=[half])
    fit(Fused())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scope"), [(SubspaceTeacher, "classifier"), (SubspaceTeacher, "shared"), (SubspaceStudent, "shared")]
)
def test_the_callback_named_in_a_config_changes_a_real_model(cohort, kind, scope):
    weights = []
    for callbacks in ([], [GradientCoordination(scope=scope)]):
        torch.manual_seed(1)
        model = kind(width=16)
        trainer = Trainer(max_epochs=2, callbacks=callbacks, **QUIET)
        trainer.fit(model, data_of(cohort))
        weights.append([p.detach().clone() for p in model.parameters()])
    assert trainer.callback_metrics["coordination/conflict"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert all(p.isfinite().all() for p in weights[1])


def test_scaled_gradients_are_compared_after_unscaling():
    """Half precision with a gradient scaler gives the steps of single precision, up to rounding."""
    half = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    single, scaled = train([GradientCoordination()])[0], train([GradientCoordination()], plugins=[half])[0]
    assert 0 < distance(single, scaled) < 0.01


SCRIPT = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Subset
from test_coordination import QUIET, Tiny, loader
from dmml.callbacks.coordination import GradientCoordination

torch.set_num_threads(1)

class Distributed(Tiny):
    def __init__(self, scope):
        super().__init__()
        self.scope = scope
    def train_dataloader(self):
        data = loader(8).dataset
        mine = [i for i in range(64) if (i // 8) % 2 == self.global_rank]
        return DataLoader(Subset(data, mine), batch_size=8)
    def on_train_end(self):
        torch.save([p.detach() for p in self.parameters()], f"{self.scope}{self.global_rank}.pt")

if __name__ == "__main__":
    for scope in ("classifier", "shared"):
        strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
        trainer = Trainer(max_epochs=2, devices=2, strategy=strategy, use_distributed_sampler=False, callbacks=[GradientCoordination(scope=scope)], **QUIET)
        trainer.fit(Distributed(scope))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """With the same 64 samples in batches of 16, both ranks have the same weights, and those of a single process."""
    (tmp_path / "two.py").write_text(SCRIPT)
    here = Path(__file__).resolve().parent
    run = subprocess.run(
        [sys.executable, "two.py", str(here), str(here.parent / "support")],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for scope in ("classifier", "shared"):
        ranks = [torch.load(tmp_path / f"{scope}{i}.pt", weights_only=True) for i in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*ranks, strict=True))
        single, _ = train([GradientCoordination(scope=scope)])
        gap = max((a - b).abs().max().item() for a, b in zip(ranks[0], single.parameters(), strict=True))
        assert gap < 1e-6


def test_processes_add_their_confidences_without_a_barrier(cohort, tmp_path, monkeypatch):
    """A barrier would make the host wait for the device at every step."""
    # Lightning writes these into the environment; left there, later processes would wait for ones that nobody starts.
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    inside, barriers, summed = [], [], []
    step, barrier, add = (
        GradientCoordination.on_before_optimizer_step,
        torch.distributed.barrier,
        torch.distributed.all_reduce,
    )

    def stepping(self, *args):
        inside.append(True)
        step(self, *args)
        inside.pop()

    monkeypatch.setattr(GradientCoordination, "on_before_optimizer_step", stepping)
    monkeypatch.setattr(torch.distributed, "barrier", lambda *a, **k: (barriers.extend(inside), barrier(*a, **k))[1])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *a, **k: (summed.extend(inside), add(*a, **k))[1])
    trainer = Trainer(
        max_steps=2,
        callbacks=[GradientCoordination()],
        strategy="ddp",
        devices=1,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        **QUIET,
    )
    try:
        trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    finally:
        torch.distributed.destroy_process_group()
    assert trainer.global_step == len(summed) == 2
    assert barriers == []

"""Confidence under censoring: a subspace that knows the risk wins, one that predicts low hazard for everyone does not.

The test takes the real path: the task's likelihoods, summed by a module's training step, compared by the callback.
"""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from dmml.callbacks.coordination import GradientCoordination
from dmml.functional.coordination import coordinate
from dmml.tasks import Survival
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch, SubspaceOutput

PATIENTS = 4000
SHARES = (0.2, 0.5, 0.8)
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def simulate(share):
    """Exponential times with log-hazard x, of which the given share is censored at random times."""
    generator = torch.Generator().manual_seed(int(share * 100))
    x = torch.randn(PATIENTS, generator=generator)
    draws = -torch.rand(2, PATIENTS, generator=generator, dtype=torch.float64).clamp_min(1e-9).log()
    time, leaves = draws[0] * 600 / x.double().exp(), draws[1]
    scale = torch.quantile(time / leaves, 1 - share)  # censored where scale · leaves < time
    event = time <= scale * leaves
    return x, {"time": torch.minimum(time, scale * leaves).numpy(), "event": event.double().numpy()}


def maximum_likelihood(task, target, x, slope):
    """Logits a_k (+ b · x with `slope`) of maximum likelihood, which a subspace with this information would learn.

    These are not the simulated hazards: with few intervals, a patient who is censored within one counts as having
    survived it, so the estimated hazards are lower.
    """
    level, b = torch.full((4,), -1.0, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([level, b], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = -task.log_likelihood(level + b * x.unsqueeze(1) * slope, target).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    return level.detach(), b.detach() * slope


class Fixed(SubspaceTeacher):
    """A teacher whose two subspaces predict fixed logits."""

    fixed_logits: tuple[torch.Tensor, torch.Tensor]

    def forward(self, batch):
        zero = sum(p.sum() for p in self.heads.parameters()) * 0
        parts = {(10, s): logits + zero for s, logits in zip(("tumor", "tme"), self.fixed_logits, strict=True)}
        logits = sum(parts.values())
        return SubspaceOutput(logits, {10: logits}, parts, {}, {}, {})


def confidences(task, target, a, b, kind):
    """Confidences of two subspaces that the callback logs after one training step."""
    off = {"consistency_weight": 0.0, "program_weight": 0.0, "decorrelation_weight": 0.0}
    model = Fixed(n_features=0, genes={}, task=task, width=4, magnifications=[10], **off)
    model.fixed_logits = (a, b)
    patients = [str(i) for i in range(PATIENTS)]
    none = torch.zeros(PATIENTS, dtype=torch.bool)
    batch = Batch(patients, {}, torch.zeros(PATIENTS, 0, dtype=torch.long), {}, none, target)
    callback = GradientCoordination(confidence=kind)
    trainer = Trainer(max_steps=1, accelerator="cpu", callbacks=[callback], **QUIET)
    trainer.fit(model, DataLoader([batch], batch_size=None))
    return tuple(trainer.callback_metrics[f"coordination/confidence_{s}"].item() for s in ("tumor", "tme"))


@pytest.fixture(scope="module", params=SHARES, ids=lambda share: f"{share:.0%}")
def censored(request):
    """(share, task, target, {name: logits})."""
    x, outcome = simulate(request.param)
    assert 1 - outcome["event"].mean() == pytest.approx(request.param, abs=0.01)
    task = Survival()
    task.fit(outcome)
    target = task.encode(outcome)
    level, slope = maximum_likelihood(task, target, x, slope=1.0)
    assert slope > 0.5
    informed = level + slope * x.unsqueeze(1)
    timid = maximum_likelihood(task, target, x * 0, slope=0.0)[0] + 0.3 * slope * (x - 0.15).unsqueeze(1)
    logits = {
        "informed": informed,
        "timid": timid,  # knows the risk, and predicts less than a third of it
        "base": maximum_likelihood(task, target, x, slope=0.0)[0].expand(PATIENTS, -1),
        "low": torch.full((PATIENTS, 4), -6.0),
        "lower": torch.full((PATIENTS, 4), -12.0),
        "moderately low": torch.full((PATIENTS, 4), -3.0),
    }
    return request.param, task, target, logits


def test_base_rate_is_the_share_of_events_among_those_at_risk(censored):
    """The fitted hazards are compared with a count, since the other tests rely on them."""
    _, task, target, logits = censored
    interval = torch.bucketize(target["time"], torch.tensor(task.edges, dtype=torch.float32), right=True)
    for k in range(4):
        hit = ((interval == k) & (target["event"] > 0)).sum() / (interval >= k).sum()
        assert logits["base"][0, k].sigmoid().item() == pytest.approx(hit.item(), abs=2e-3)


@pytest.mark.parametrize("knows", ["informed", "timid"])
@pytest.mark.parametrize("ignores", ["base", "moderately low", "low", "lower"])
def test_likelihood_prefers_the_subspace_that_knows_the_risk_at_every_share_of_censoring(censored, knows, ignores):
    _, task, target, logits = censored
    informed, uninformed = confidences(task, target, logits[knows], logits[ignores], "likelihood")
    assert informed > uninformed * 1.02
    expected = task.log_likelihood(logits[knows], target).double().mean().exp().item()
    assert informed == pytest.approx(expected, rel=1e-3)


def test_low_hazard_for_everyone_loses_to_the_base_rate(censored):
    _, task, target, logits = censored
    base, low = confidences(task, target, logits["base"], logits["low"], "likelihood")
    _, moderate = confidences(task, target, logits["base"], logits["moderately low"], "likelihood")
    assert base > moderate > low


def test_confidence_falls_with_the_hazard_below_the_base_rate(censored):
    """The likelihood falls without limit; the paper's probability approaches the share of censored patients."""
    share, task, target, logits = censored
    low, lower = confidences(task, target, logits["low"], logits["lower"], "likelihood")
    assert lower < low / 2
    low, lower = confidences(task, target, logits["low"], logits["lower"], "probability")
    assert lower == pytest.approx(share, abs=0.01)
    assert low == pytest.approx(share, abs=0.02)


def test_the_papers_probability_prefers_low_hazard_for_everyone_if_half_are_censored(censored):
    """This weakness is why `likelihood` is the default: the mean probability is not a proper score.

    A censored patient contributes almost 1 to a prediction that nobody has the event.
    """
    share, task, target, logits = censored
    for name in ("low", "moderately low"):
        informed, low = confidences(task, target, logits["informed"], logits[name], "probability")
        assert (low > informed) == (share >= 0.5)


def test_in_conflict_the_informed_side_keeps_its_gradient(censored):
    _, task, target, logits = censored
    u, v = torch.tensor([[1.0, 0.2]]), torch.tensor([[-1.0, 0.3]])
    confidence = confidences(task, target, logits["low"], logits["informed"], "likelihood")
    low, informed, conflict = coordinate(u, v, *confidence)
    assert conflict.all()
    assert torch.equal(informed, v)
    assert not torch.equal(low, u)

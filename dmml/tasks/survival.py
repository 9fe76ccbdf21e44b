"""Time to an event in discrete intervals, under right censoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from dmml.cohort.clinical.follow_up import HORIZONS
from dmml.errors import InputError
from dmml.functional.combination import masked_log_mean
from dmml.functional.cox import cox_partial_nll, log_cumulative_hazard
from dmml.functional.distillation import bernoulli_divergence
from dmml.functional.survival import (
    discrete_time_nll,
    followed_log_likelihood,
    interval_edges,
    interval_probabilities,
    risk_score,
    survival_at,
    survival_curve,
    time_quantiles,
    time_to_interval,
)
from dmml.linear.likelihoods import CoxLikelihood, Likelihood
from dmml.tasks.base import OutcomeColumns, Task, calibrated
from dmml.tasks.conformal import SurvivalBounds
from dmml.tasks.interval_events import describe_empty_intervals
from dmml.tasks.ridge.cox_regression import CoxRegression
from dmml.tasks.survival_presentation import SurvivalPresentation

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


LIKELIHOODS = ("discrete", "cox")
EDGES_FROM = ("events", "all")
MIN_EVENTS = 4
"""Mean number of events that a batch needs for its partial likelihood to be worth a step."""


class Survival(Task):
    """Discrete-time survival.

    The loss is the negative discrete-time log-likelihood. With `likelihood="cox"`, the batch's partial likelihood of
    the log-risk η = log(−Σ_k log(1 − h_k)) is added. It compares patients with each other, while the discrete-time
    likelihood sets the level of the curves, which the partial likelihood leaves free. Both are sums of log-likelihoods
    over the same patients, so they need no relative weight. Confidences and `log_likelihood` are always discrete-time.

    Args:
        n_intervals: Number of time intervals K.
        edges: The K − 1 days between the intervals; None takes quantiles of the training patients' times.
        end: Day on which the last interval ends, beyond which survival is undefined; None takes the largest training
            time.
        alpha: Share by which the weight of censored patients in the loss is reduced.
        combination: See `Task`.
        likelihood: "discrete" or "cox"; the latter needs several events per batch (see `check_batch`).
        edges_from: Whose times give the edges, if `edges` is None. "events" takes quantiles of the event times, so that
            every interval has about as many events. "all" takes quantiles of the times of all training patients with a
            known outcome, censored ones included: with four intervals, the paper's quartiles of survival time (it
            leaves open whose times these are; the released code takes those of all patients, the tested ones among
            them). An interval may then have no event, of which `fit_warning` tells.

    Raises:
        ValueError: `likelihood` or `edges_from` is unknown; `n_intervals` is below 1; `edges` does not fit `n_intervals`, does not
            ascend, or exceeds `end`.
    """

    kind = "survival"
    outcome = ("time", "event")

    def __init__(
        self,
        n_intervals: int = 4,
        edges: list[float] | None = None,
        end: float | None = None,
        alpha: float = 0.0,
        combination: str = "mean",
        likelihood: str = "discrete",
        edges_from: str = "events",
    ):
        super().__init__(combination)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}; got {likelihood!r}")
        if edges_from not in EDGES_FROM:
            raise ValueError(f"edges_from must be one of {', '.join(EDGES_FROM)}; got {edges_from!r}")
        if n_intervals < 1:
            raise ValueError(f"n_intervals must be at least 1; got {n_intervals}")
        if edges is not None and len(edges) != n_intervals - 1:
            raise ValueError(f"{n_intervals} intervals need {n_intervals - 1} edges; got {len(edges)}")
        if edges is not None and list(edges) != sorted(edges):
            raise ValueError(f"edges must ascend; got {edges}")
        if end is not None and edges and end < edges[-1]:
            raise ValueError(f"end must not lie before the last edge, {edges[-1]:g} days; got {end:g}")
        self.n_intervals = self.n_outputs = n_intervals
        self.edges = None if edges is None else [float(edge) for edge in edges]
        self.end = None if end is None else float(end)
        self.alpha, self.likelihood, self.edges_from = alpha, likelihood, edges_from

    def fit(self, outcome: OutcomeColumns) -> None:
        """Set edges and end from the times (days) and events of the training patients, unless they were given."""
        time, event = (np.asarray(outcome[name], dtype=float) for name in self.outcome)
        observed = ~(np.isnan(time) | np.isnan(event))
        time, event = time[observed], event[observed]
        if self.edges is None:
            if not event.any():
                raise InputError(
                    f"none of {len(event)} training patients with a known outcome has the event; check the outcome's event "
                    "column (1 = happened), or choose other folds"
                )
            if event.sum() < self.n_intervals:
                raise InputError(
                    f"the event happened to {int(event.sum())} of {len(event)} training patients, fewer than the "
                    f"{self.n_intervals} intervals; check the outcome's event column (1 = happened), or lower n_intervals"
                )
            self.edges = self._quantiles(torch.as_tensor(time), torch.as_tensor(event)).tolist()
            self.fit_warning = describe_empty_intervals(time, event, self.edges, self.edges_from)
        if self.end is None:
            if not len(time):
                raise InputError("no training patient has a time and an event; check the outcome's columns")
            self.end = float(max(time.max(), self.edges[-1] if self.edges else 0.0))

    def _quantiles(self, time: Tensor, event: Tensor) -> Tensor:
        """Return (K − 1,) quantiles of the event times, or of all times."""
        if self.edges_from == "all":
            return time_quantiles(time, self.n_intervals)
        return interval_edges(time, event, self.n_intervals)

    def check_batch(self, batch_size: float, outcome: OutcomeColumns) -> None:
        """Refuse the Cox likelihood if a batch holds fewer than 4 events on average: min(batch_size, n) · events / n.

        All training patients are counted in n, including those without an outcome.

        Raises:
            InputError: A batch holds too few events; the message names a sufficient batch size if there is one.
        """
        if self.likelihood != "cox":
            return
        time, event = (np.asarray(outcome[name], dtype=float) for name in self.outcome)
        n, events = len(time), int((event[~np.isnan(time)] > 0).sum())
        expected = min(batch_size, n) * events / max(n, 1)
        if expected >= MIN_EVENTS:
            return
        way = "set likelihood: discrete"
        if events >= MIN_EVENTS:
            enough = math.ceil(MIN_EVENTS * n / events)
            way = f"let a batch hold {enough} patients or more (data.batch_size, data.token_budget), or set likelihood: discrete"
        raise InputError(
            f"likelihood: cox needs {MIN_EVENTS} events a batch; one of {batch_size:.3g} patients holds {expected:.1f} on average "
            f"({events} events among {n} training patients); {way}"
        )

    def init_args(self) -> dict[str, Any]:
        """See `Task`."""
        names = ("n_intervals", "edges", "end", "alpha", "combination", "likelihood", "edges_from")
        return {name: getattr(self, name) for name in names}

    def encode(self, outcome: OutcomeColumns) -> dict[str, Tensor]:
        """Convert times (days) and events to `time`, `event` and `observed`."""
        time, event = (torch.as_tensor(np.asarray(outcome[name], dtype=float)) for name in self.outcome)
        observed = ~(time.isnan() | event.isnan())
        return {
            "time": time.nan_to_num().float(),
            "event": event.nan_to_num().float(),
            "observed": observed,
        }

    def _nll(self, logits: Tensor, target: Mapping[str, Tensor], alpha: float) -> Tensor:
        if self.edges is None:
            raise RuntimeError(
                "Survival has no edges yet: give them, or call fit() with the training patients' outcomes"
            )
        edges = self.on_device("edges", self.edges, logits.device, torch.float64)
        interval = time_to_interval(target["time"], edges)
        return discrete_time_nll(logits, interval, target["event"], alpha) * target["observed"]

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Negative discrete-time log-likelihood; with "cox", plus each event's negative log partial likelihood."""
        return self._with_partial(self._nll(logits, target, self.alpha), logits, target)

    def _with_partial(self, loss: Tensor, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Add the partial negative log-likelihood of each event within the batch if the likelihood is "cox"."""
        if self.likelihood != "cox":
            return loss
        outcome = (target[name] for name in ("time", "event", "observed"))
        return loss + cox_partial_nll(log_cumulative_hazard(logits), *outcome)

    def loss_on_backbone(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Training loss by the likelihood that calibrated the backbone; with `alpha` it is `loss`.

        The likelihood of the intervals alone has its optimum at other hazards of a wide last interval. A deep part trained by
        it would first undo the calibration, and so would never be better than the backbone alone.
        """
        if self.alpha:
            return self.loss(logits, target)
        return self._with_partial(-self.calibration_log_likelihood(logits, target), logits, target)

    def log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """See `Task`."""
        return -self._nll(logits, target, 0.0)

    def calibration_log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """See `Task` and `dmml.functional.survival.followed_log_likelihood`; `end` closes the last interval.

        On TCGA-LUAD (a ridge Cox model of RNA, whose hazards of four intervals were fitted in each way), the integrated
        Brier score was 0.221 with the likelihood of the loss, 0.197 when the share of the interval that was followed is
        counted for censored patients, and 0.190 when it is counted for events, too.
        """
        if self.edges is None or self.end is None:
            return self.log_likelihood(logits, target)
        edges = self.on_device("edges", self.edges, logits.device, torch.float64)
        interval = time_to_interval(target["time"], edges)
        days = self.on_device("knots", [0.0, *self.edges, self.end], logits.device, torch.float64)
        width = (days[interval + 1] - days[interval]).clamp_min(1e-9)
        exposure = ((target["time"].double() - days[interval]) / width).clamp(0, 1)
        return followed_log_likelihood(logits, interval, target["event"], exposure) * target["observed"]

    def divergence(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Softened divergence between the Bernoulli distributions of each hazard; see `Task`."""
        return temperature**2 * bernoulli_divergence(student_logits, teacher_logits, temperature)

    def mean_prediction(self, logits: Tensor, log_weight: Tensor) -> Tensor:
        """Hazard logits of the mean survival curve.

        With S̄_k = Σ_m w_m S_{m,k}, the hazard of the mean is Σ w S_{k−1} h_k / Σ w S_{k−1}. Its logit is the log of
        Σ w S_{k−1} h_k over Σ w S_{k−1} (1 − h_k): two logsumexps, which are finite for logits of ±1e4.
        """
        log_alive = logsigmoid(-logits)  # (M, B, K)
        before = log_alive.cumsum(-1) - log_alive + log_weight.unsqueeze(-1)  # log w S_{k-1}
        return masked_log_mean(before, logsigmoid(logits)) - masked_log_mean(before, log_alive)

    def prediction_confidence(self, logits: Tensor) -> Tensor:
        """Largest probability of the event in one interval, S_{k−1} h_k, or beyond the last one, S_K."""
        return interval_probabilities(logits).amax(-1)

    def linear_likelihood(self, target: Mapping[str, Tensor]) -> Likelihood:
        """Cox partial log-likelihood; the linear predictor is a log-hazard (n, 1)."""
        return CoxLikelihood(target["time"].numpy(), target["event"].numpy())

    def regression(self) -> CoxRegression:
        """Return ridge Cox regression."""
        return CoxRegression(self)

    def calibrate(self, predictor: NDArray, target: Mapping[str, Tensor]) -> tuple[NDArray, NDArray]:
        """Fit one slope for the hazards of all intervals and a bias for each."""
        return calibrated(self, predictor, target, np.ones((1, self.n_outputs)))

    def metrics(self) -> MetricCollection:
        """Return the concordance of the risk."""
        from dmml.tasks.concordance import risk_metrics

        return risk_metrics()

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the risk, and survival at the edges, at the end and at the horizons before the end."""
        curve = survival_curve(logits)
        columns = {"risk": risk_score(logits).double()}
        if self.edges is not None and self.end is not None:
            days = self.prediction_days()
            edges = torch.tensor(self.edges, dtype=torch.float64)
            survival = survival_at(curve, edges, self.end, torch.tensor(days, dtype=torch.float64))
            columns |= {f"survival_{day:g}": survival[:, i] for i, day in enumerate(days)}
        return columns

    def prediction_days(self) -> list[float]:
        """Return the days on which survival is predicted: the edges, the end, and the horizons before the end."""
        if self.edges is None or self.end is None:
            raise RuntimeError(
                "Survival has no edges yet: give them and `end`, or call fit() with the training outcomes"
            )
        return sorted({*self.edges, self.end, *(day for day in HORIZONS if day < self.end)})

    def presentation(self) -> SurvivalPresentation:
        """Return how a risk and a survival curve are put into words."""
        return SurvivalPresentation(self)

    def conformal(self) -> SurvivalBounds:
        """Return lower bounds of the time to the event."""
        return SurvivalBounds(self)

    def context(self) -> dict[str, Any]:
        """See `Task`."""
        return {"task": self.kind, "edges": self.edges, "end": self.end}

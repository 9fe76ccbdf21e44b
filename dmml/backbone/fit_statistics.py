"""Fits the statistics of slides on the tokens of training patients, in streaming passes over a bounded sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from dmml.backbone.slide_statistics import SlideStatistics
from dmml.types import Bag

N_CLUSTERS = 6
MAX_DIRECTIONS = 8
EDGE_MARGIN, MIN_KURTOSIS = 1.1, 0.5
"""A direction stands out where its variance exceeds the edge of noise by a tenth and its scores' excess kurtosis exceeds
0.5"""
MIN_TOKENS_PER_DIMENSION = 4
"""With fewer, the eigenvalues of pure noise spread so far that their median is not its variance"""
NULL_VARIANCE = 1e-6
"""Relative to the largest eigenvalue; smaller ones are rounding errors"""
CLUSTER_SAMPLE = 40_000
"""Tokens of all patients together on which clusters are found"""
CLUSTER_DIMENSIONS = 64
"""Leading principal components in which clusters are looked for; K-means on all 1,024 features takes ten times as long"""
_STARTS, _REDUCED_STARTS, _ITERATIONS = 3, 10, 25
"""Starts of K-means on all features, and in the leading components, where a start costs little"""

Bags = Callable[[], Iterable[Bag]]
"""Gives a fresh pass over the patients: each a bag of one patient (1, N, D), with N bounded"""


def fit_slide_statistics(
    bags: Bags, mean: np.ndarray, scale: np.ndarray, n_patients: int, n_clusters: int = N_CLUSTERS, seed: int = 0
) -> SlideStatistics:
    """Fit clusters of tissue and directions that stand out, without labels.

    Args:
        bags: Passes over the training patients of one magnification.
        mean: (D,) of the features of training patients.
        scale: (D,) their standard deviation.
        n_patients: Number of bags in a pass.
        n_clusters: K; 0 clusters are fitted where slides hold too few vectors.
        seed: Of the sample of tokens and of the starts of K-means.

    Source: K-means in the leading principal components; the edge is that of Marchenko & Pastur 1967.
    """
    fitted = SlideStatistics(len(mean))
    fitted.mean, fitted.scale = (torch.as_tensor(values, dtype=torch.float32) for values in (mean, scale))
    centres = _clusters(bags, fitted.scale, n_patients, n_clusters, seed)
    if centres is None:
        return fitted
    fitted.centres = centres
    fitted.directions, fitted.unit = _directions(bags, fitted)
    return fitted


def _clusters(bags: Bags, scale: Tensor, n_patients: int, n_clusters: int, seed: int) -> Tensor | None:
    """(K, D) centres of the slide-centred tokens; None where slides hold too few vectors to differ within."""
    rng = np.random.default_rng(seed)
    each = max(16, CLUSTER_SAMPLE // max(1, n_patients))
    sample = []
    for bag in bags():
        x, slide = bag.features[0][bag.mask[0]].float() / scale, bag.slide[0][bag.mask[0]]
        if len(x) < 2:
            continue
        membership = torch.nn.functional.one_hot(slide, int(slide.max()) + 1).float()
        x = x - membership @ ((membership.T @ x) / membership.sum(0).clamp_min(1).unsqueeze(-1))
        rows = np.sort(rng.permutation(len(x))[:each])
        sample.append(x[torch.from_numpy(rows)].numpy())
    tokens = np.concatenate(sample) if sample else np.zeros((0, len(scale)), np.float32)
    if len(tokens) < 4 * n_clusters or not tokens.std() > 1e-6:
        return None
    origin, axes = _leading_components(tokens, CLUSTER_DIMENSIONS)
    reduced = (tokens - origin) @ axes
    best, lowest = None, np.inf
    for start in range(_STARTS if tokens.shape[1] <= CLUSTER_DIMENSIONS else _REDUCED_STARTS):
        # Fewer distinct tokens than clusters leave some clusters empty, which does no harm.
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            centres, nearest = kmeans2(reduced, n_clusters, iter=_ITERATIONS, minit="++", rng=seed + start)
        loss = ((reduced - centres[nearest]) ** 2).sum()
        if loss < lowest:
            best, lowest = (centres, nearest), loss
    centres, nearest = best
    members = np.eye(n_clusters, dtype=np.float32)[nearest]
    size = members.sum(0)[:, None]
    centres = np.where(size > 0, members.T @ tokens / np.maximum(size, 1), origin + centres @ axes.T)
    return torch.from_numpy(np.ascontiguousarray(centres, np.float32))


def _leading_components(tokens: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and principal axes (D, n_components) of tokens (T, D); 0 and all D axes where there are no more."""
    dim = tokens.shape[1]
    if dim <= n_components:
        return np.zeros(dim, tokens.dtype), np.eye(dim, dtype=tokens.dtype)
    centred = tokens - tokens.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return tokens.mean(0), axes[:, : -n_components - 1 : -1]


def _directions(bags: Bags, fitted: SlideStatistics) -> tuple[Tensor, Tensor]:
    """(J, D) directions of the residuals that stand out, and the standard deviation of the noise, ()."""
    dim = len(fitted.mean)
    covariance, n_tokens = torch.zeros(dim, dim, dtype=torch.float64), 0
    for bag in bags():
        residual = fitted.residual(bag)
        covariance += (residual.T @ residual).double()
        n_tokens += len(residual)
    value, vector = torch.linalg.eigh(covariance / max(1, n_tokens))
    # Features that are constant, and directions that too few tokens cannot span, say nothing of the noise.
    spectrum = value[value > NULL_VARIANCE * value[-1]]
    if not len(spectrum) or n_tokens < MIN_TOKENS_PER_DIMENSION * len(spectrum):
        return torch.zeros(0, dim), torch.ones(())
    typical = spectrum.median()
    edge = EDGE_MARGIN * (1 + (len(spectrum) / n_tokens) ** 0.5) ** 2
    candidates = vector[:, value / typical > edge].flip(1).T.float()  # the largest first
    if len(candidates):
        tails = _excess_kurtosis(bags, fitted, candidates)
        heavy = torch.nonzero(tails > MIN_KURTOSIS).flatten()
        chosen = heavy[tails[heavy].argsort(descending=True, stable=True)][:MAX_DIRECTIONS].sort().values
        candidates = candidates[chosen]
    # The sign of an eigenvector is arbitrary; its largest entry is made positive.
    largest = candidates.gather(1, candidates.abs().argmax(1, keepdim=True)) if len(candidates) else candidates[:, :1]
    return candidates * largest.sign(), typical.sqrt().float()


def _excess_kurtosis(bags: Bags, fitted: SlideStatistics, candidates: Tensor) -> Tensor:
    """(J,) of the residuals' scores along directions (J, D)."""
    second, fourth, count = torch.zeros(len(candidates)), torch.zeros(len(candidates)), 0
    second, fourth = second.double(), fourth.double()
    for bag in bags():
        scores = (fitted.residual(bag) @ candidates.T).double()
        second, fourth = second + scores.square().sum(0), fourth + scores.pow(4).sum(0)
        count += len(scores)
    variance = (second / max(1, count)).clamp_min(1e-12)
    return fourth / max(1, count) / variance.square() - 3

"""Fitting of slide statistics to the tokens of training patients, streamed, with a bounded number per patient."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dmml.backbone.slide_statistics import SlideStatistics
from dmml.types import Bag

N_CLUSTERS = 6
MAX_DIRECTIONS = 8
EDGE_MARGIN, MIN_KURTOSIS = 1.1, 0.5
"""A direction stands out if its variance exceeds the edge of the noise by a tenth, and the excess kurtosis of its
scores exceeds 0.5"""
MIN_TOKENS_PER_DIMENSION = 4
"""With fewer tokens, the eigenvalues of pure noise spread so far that their median is not the variance of the noise"""
NULL_VARIANCE = 1e-6
"""Relative to the largest eigenvalue; smaller eigenvalues are rounding errors"""
CLUSTER_SAMPLE = 40_000
"""Approximate number of tokens, over all patients together, to which clusters are fitted"""
_MIN_PER_PATIENT = 16
"""Smallest number of tokens per sampled patient; of more patients than the sample has room for, every k-th is sampled"""
CLUSTER_DIMENSIONS = 64
"""Number of principal components on which K-means runs; on all 1,024 features it takes ten times as long"""
_STARTS, _REDUCED_STARTS, _ITERATIONS = 3, 10, 25
"""Starts of K-means on all features and on principal components, where a start is cheap; iterations of each start"""

Bags = Callable[[], Iterable[Bag]]
"""Starts a fresh pass over the patients, which yields one bag (1, N, D) per patient, with bounded N"""


def fit_slide_statistics(
    bags: Bags, mean: np.ndarray, scale: np.ndarray, n_patients: int, n_clusters: int = N_CLUSTERS, seed: int = 0
) -> SlideStatistics:
    """Fit tissue clusters and directions that stand out from noise, without labels.

    Args:
        bags: Starts a pass over the training patients at one magnification.
        mean: (D,) mean of the features over training patients.
        scale: (D,) standard deviation of the features over training patients.
        n_patients: Number of bags in a pass.
        n_clusters: K; if slides contain too few vectors, neither clusters nor directions are fitted.
        seed: Seed of the sample of tokens and of the starts of K-means.

    Source: K-means on the leading principal components; Marchenko & Pastur 1967 for the edge of the noise.
    """
    fitted = SlideStatistics(len(mean))
    fitted.mean, fitted.scale = (torch.as_tensor(values, dtype=torch.float32) for values in (mean, scale))
    centres = _clusters(bags, fitted.scale, n_patients, n_clusters, seed)
    if centres is None:
        return fitted
    fitted.centres = centres
    fitted.directions, fitted.noise_sd = _directions(bags, fitted)
    return fitted


def _clusters(bags: Bags, scale: Tensor, n_patients: int, n_clusters: int, seed: int) -> Tensor | None:
    """Return centres (K, D) of the slide-centred tokens; None if slides contain too few vectors, or equal ones."""
    rng = np.random.default_rng(seed)
    n_per_patient = max(_MIN_PER_PATIENT, CLUSTER_SAMPLE // max(1, n_patients))
    every = max(1, n_patients * _MIN_PER_PATIENT // CLUSTER_SAMPLE)
    sample = []
    for bag in islice(bags(), 0, None, every):
        x, slide = bag.features[0][bag.mask[0]].float() / scale, bag.slide[0][bag.mask[0]]
        if len(x) < 2:
            continue
        membership = torch.nn.functional.one_hot(slide, int(slide.max()) + 1).float()
        x = x - membership @ ((membership.T @ x) / membership.sum(0).clamp_min(1).unsqueeze(-1))
        rows = np.sort(rng.permutation(len(x))[:n_per_patient])
        sample.append(x[torch.from_numpy(rows)].numpy())
    tokens = np.concatenate(sample) if sample else np.zeros((0, len(scale)), np.float32)
    if len(tokens) < 4 * n_clusters or not tokens.std() > 1e-6:
        return None
    origin, axes = _leading_components(tokens, CLUSTER_DIMENSIONS)
    reduced = (tokens - origin) @ axes
    n_starts = _STARTS if tokens.shape[1] <= CLUSTER_DIMENSIONS else _REDUCED_STARTS
    runs = (_kmeans(reduced, n_clusters, seed + start) for start in range(n_starts))
    _, centres, nearest = min(runs, key=lambda run: run[0])
    members = np.eye(n_clusters, dtype=np.float32)[nearest]
    size = members.sum(0)[:, None]
    centres = np.where(size > 0, members.T @ tokens / np.maximum(size, 1), origin + centres @ axes.T)
    return torch.from_numpy(np.ascontiguousarray(centres, np.float32))


def _kmeans(points: np.ndarray, n_clusters: int, seed: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Run K-means once; return the sum of squared distances, the centres (K, d) and each point's nearest centre (T,)."""
    from scipy.cluster.vq import kmeans2

    # With fewer distinct points than clusters, some clusters stay empty, which does no harm.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        centres, nearest = kmeans2(points, n_clusters, iter=_ITERATIONS, minit="++", rng=seed)
    return float(((points - centres[nearest]) ** 2).sum()), centres, nearest


def _leading_components(tokens: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (D,) and principal axes (D, n_components) of tokens (T, D); 0 and identity if D ≤ n_components."""
    dim = tokens.shape[1]
    if dim <= n_components:
        return np.zeros(dim, tokens.dtype), np.eye(dim, dtype=tokens.dtype)
    centred = tokens - tokens.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return tokens.mean(0), axes[:, : -n_components - 1 : -1]


def _directions(bags: Bags, fitted: SlideStatistics) -> tuple[Tensor, Tensor]:
    """Return the directions (J, D) in which residuals stand out from noise, and the noise's standard deviation ()."""
    dim = len(fitted.mean)
    covariance, n_tokens = torch.zeros(dim, dim, dtype=torch.float64), 0
    for bag in bags():
        residual = fitted.residual(bag)
        covariance += (residual.T @ residual).double()
        n_tokens += len(residual)
    value, vector = torch.linalg.eigh(covariance / max(1, n_tokens))
    # Constant features, and directions that too few tokens cannot span, carry no information about the noise.
    spectrum = value[value > NULL_VARIANCE * value[-1]]
    if not len(spectrum) or n_tokens < MIN_TOKENS_PER_DIMENSION * len(spectrum):
        return torch.zeros(0, dim), torch.ones(())
    typical = spectrum.median()
    edge = EDGE_MARGIN * (1 + (len(spectrum) / n_tokens) ** 0.5) ** 2
    candidates = vector[:, value / typical > edge].flip(1).T.float()  # largest variance first
    if len(candidates):
        tails = _excess_kurtosis(bags, fitted, candidates)
        heavy = torch.nonzero(tails > MIN_KURTOSIS).flatten()
        heaviest = heavy[tails[heavy].argsort(descending=True, stable=True)][:MAX_DIRECTIONS].sort().values
        candidates = candidates[heaviest]
    # The sign of an eigenvector is arbitrary; its largest entry is made positive.
    largest = candidates.gather(1, candidates.abs().argmax(1, keepdim=True)) if len(candidates) else candidates[:, :1]
    return candidates * largest.sign(), typical.sqrt().float()


def _excess_kurtosis(bags: Bags, fitted: SlideStatistics, candidates: Tensor) -> Tensor:
    """Return the excess kurtosis (J,) of the residuals' scores along directions (J, D)."""
    second, fourth, count = torch.zeros(len(candidates)), torch.zeros(len(candidates)), 0
    second, fourth = second.double(), fourth.double()
    for bag in bags():
        scores = (fitted.residual(bag) @ candidates.T).double()
        second, fourth = second + scores.square().sum(0), fourth + scores.pow(4).sum(0)
        count += len(scores)
    variance = (second / max(1, count)).clamp_min(1e-12)
    return fourth / max(1, count) / variance.square() - 3

"""Information kept when a slide's tokens are merged into K: the tissue's factors, and a student's prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from torch import Tensor

from dmml.functional.aggregation import merge_tokens
from dmml.nn.merger import cluster_tissue
from dmml.simulate.slides.tissue_types import GLASS
from dmml.simulate.tokens import FACTOR_VISIBILITY, TILE_UM, draw_tokens
from dmml.simulate.truth import FACTOR_NAMES, draw_patients, visible_factors
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.types import Bag, Batch

DIM = 64
VISIBILITY = 0.8
MERGED = (1, 4, 8, 16)
TISSUES = tuple(tissue for tissue in FACTOR_VISIBILITY if tissue != GLASS)
READINGS = ("mean", "mean and spread", "mean of each tissue")


class Slides:
    """One simulated slide per patient: padded bags, the true tissue of every token, and the factors that the slide shows."""

    def __init__(self, patients: int, seed: int = 0):
        drawn = draw_patients("development", patients, seed)
        self.factors = np.stack([visible_factors(patient, 0, VISIBILITY) for patient in drawn])
        slides, labels = zip(*(draw_tokens(patient, 0, DIM, VISIBILITY) for patient in drawn), strict=True)
        self.bags = {m: _bag([slide[m] for slide in slides]) for m in TILE_UM}
        self.tissue = {20: _padded([torch.from_numpy(x[x != GLASS].astype(np.int64)) for x in labels], -1)}
        self.parent = _padded([torch.from_numpy(slide[20].parent.astype(np.int64)) for slide in slides], -1)
        self.tissue[10] = self._tissue_of_coarse()

    def _tissue_of_coarse(self) -> Tensor:
        """The most frequent tissue among the fine tiles under each coarse one. (P, N10), −1 = padding."""
        votes = torch.zeros(*self.bags[10].mask.shape, max(TISSUES) + 1)
        patient = torch.arange(len(votes)).unsqueeze(1).expand_as(self.parent)
        real = self.parent >= 0
        ones = torch.ones(int(real.sum()))
        votes.index_put_((patient[real], self.parent[real], self.tissue[20][real]), ones, accumulate=True)
        return votes.argmax(-1).masked_fill(~self.bags[10].mask, -1)


def _padded(rows: list[Tensor], fill: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def _bag(slides: list) -> Bag:
    features = _padded([torch.from_numpy(slide.features).float() for slide in slides], 0.0)
    position = _padded([torch.from_numpy(slide.position) for slide in slides], 0.0)
    counts = torch.tensor([len(slide.features) for slide in slides])
    mask = torch.arange(features.shape[1]) < counts.unsqueeze(1)
    return Bag(features, position, mask, torch.zeros(mask.shape, dtype=torch.long), n_slides=1)


# ---- factors, before and after -------------------------------------------------------------------------------------


def _weighted(tokens: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over tokens. (P, M, D), (P, M) → (P, D) each."""
    share = (weight / weight.sum(1, keepdim=True)).unsqueeze(-1)
    mean = (share * tokens).sum(1)
    return mean, (share * (tokens - mean.unsqueeze(1)).square()).sum(1).sqrt()


def _of_each_tissue(tokens: Tensor, weight: Tensor, tissue: Tensor) -> Tensor:
    """Mean of the tokens of each tissue and its fraction; 0 if there is none. → (P, tissues · (D + 1))."""
    parts = []
    for kind in TISSUES:
        member_weight = weight * (tissue == kind)
        total = member_weight.sum(1, keepdim=True)
        parts += [
            (member_weight.unsqueeze(-1) * tokens).sum(1) / total.clamp_min(1e-9),
            total / weight.sum(1, keepdim=True),
        ]
    return torch.cat(parts, 1)


def readings(tokens: Tensor, weight: Tensor, prototypes: Tensor) -> dict[str, Tensor]:
    """Three summaries of a set of tokens that do not depend on their order.

    Args:
        tokens: (P, M, D), all tokens of a slide or the merged ones.
        weight: (P, M) number of tokens that each represents; 0 = padding.
        prototypes: (tissues, D); a token is assigned to the tissue with the nearest prototype.
    """
    mean, spread = _weighted(tokens, weight)
    nearest = torch.tensor(TISSUES)[torch.cdist(tokens, prototypes.expand(len(tokens), -1, -1)).argmin(-1)]
    even = (weight > 0).float()
    # The weighted mean of the merged tokens is that of all tokens; without weights, rare tissue counts more.
    return {
        "mean": _weighted(tokens, even)[0],
        "mean and spread": torch.cat([mean, spread], 1),
        "mean of each tissue": _of_each_tissue(tokens, weight, nearest),
    }


def factor_r2(features: Tensor, factors: np.ndarray) -> np.ndarray:
    """Cross-validated R² of each factor from a ridge on the features. → (6,)."""
    x = features.double().numpy()
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    folds = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(RidgeCV(np.logspace(-1, 5, 13)), x, factors, cv=folds)
    return 1 - ((factors - predicted) ** 2).sum(0) / ((factors - factors.mean(0)) ** 2).sum(0)


def merged(bag: Bag, n_merged: int) -> tuple[Tensor, Tensor]:
    """K merged tokens of every slide and the number of tokens that each represents. → (P, K, D), (P, K)."""
    assignment = cluster_tissue(bag.features, bag, n_merged)
    weight = bag.mask.float()
    sizes = weight.new_zeros(len(weight), n_merged).scatter_add(1, assignment.clamp_min(0), weight)
    return merge_tokens(bag.features, weight, assignment, n_merged), sizes


def keeps(slides: Slides) -> list[dict]:
    """R² of the factors from all tokens, from the true tissues (the upper limit), and from K merged tokens."""
    rows = []
    for m, bag in slides.bags.items():
        real, tissue = bag.mask.float(), slides.tissue[m]
        prototypes = torch.stack([bag.features[tissue == kind].mean(0) for kind in TISSUES])
        true_tissue = {"tissue known": _of_each_tissue(bag.features, real, tissue)}
        sources = {"all": true_tissue | readings(bag.features, real, prototypes)}
        for n_merged in MERGED:
            sources[f"{n_merged} merged"] = readings(*merged(bag, n_merged), prototypes)
        for source, ways in sources.items():
            for way, features in ways.items():
                r2 = factor_r2(features, slides.factors)
                by_factor = dict(zip(FACTOR_NAMES, r2.tolist(), strict=True))
                rows.append(
                    {"magnification": m, "tokens": source, "reading": way, "mean_r2": float(r2.mean()), **by_factor}
                )
    return rows


# ---- duplicated tissue ---------------------------------------------------------------------------------------------


def _batch(bags: dict[int, Bag], parent: Tensor) -> Batch:
    n = len(parent)
    return Batch([f"P{i}" for i in range(n)], bags, parent, {}, torch.zeros(n, dtype=torch.bool))


def _tokens_repeated(bag: Bag, times: int) -> Bag:
    """A bag in which every token occurs `times` times at its position, the copies after the originals."""
    tensors = (torch.cat([x] * times, 1) for x in (bag.features, bag.position, bag.mask, bag.slide))
    return Bag(*tensors, n_slides=bag.n_slides)


def _slide_repeated(bag: Bag, times: int) -> Bag:
    """A bag in which the slide occurs `times` times, as further slides of the patient."""
    twice = _tokens_repeated(bag, times)
    index = torch.arange(times).repeat_interleave(bag.mask.shape[1]).expand_as(twice.slide)
    return replace(twice, slide=index.masked_fill(~twice.mask, 0), n_slides=times)


def duplicates(slides: Slides, patients: int) -> list[dict]:
    """Change of a student's prediction if tissue is given more than once, and the spread between patients."""
    bags = {
        m: replace(bag, **{name: getattr(bag, name)[:patients] for name in ("features", "position", "mask", "slide")})
        for m, bag in slides.bags.items()
    }
    rows = []
    for n_merged in (*MERGED, None):
        torch.manual_seed(0)
        student = SubspaceStudent(
            n_features=DIM, task=Survival(edges=[300.0, 700, 1300], end=4000.0), width=32, n_merged=n_merged
        ).eval()
        with torch.inference_mode():
            once = student(_batch(bags, slides.parent[:patients]))
            for case, repeat, times in (
                ("every token twice", _tokens_repeated, 2),
                ("every token three times", _tokens_repeated, 3),
                ("the slide as two slides", _slide_repeated, 2),
            ):
                more = {m: repeat(bag, times) for m, bag in bags.items()}
                again = student(_batch(more, slides.parent[:patients].repeat(1, times)))
                moved = torch.stack([(again.embeddings[k] - z).norm(dim=1) for k, z in once.embeddings.items()])
                apart = torch.stack([(z - z.mean(0)).norm(dim=1) for z in once.embeddings.values()])
                row = {
                    "n_merged": n_merged,
                    "case": case,
                    "logits_max": float((again.logits - once.logits).abs().max()),
                    "logits_sd": float(once.logits.std(0).mean()),
                    "embedding_moved": float(moved.mean() / apart.mean()),
                }
                rows.append(row)
    return rows

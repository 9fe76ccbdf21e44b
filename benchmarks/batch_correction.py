"""Whether a correction of site effects helps linear models on patients of other sites.

Settings, each tested on sites that the training patients do not come from:

- `simulated RNA`, `simulated slides`: worlds `shared` and `site_shift` of `dmml simulate`; the held-out cohort has other
  sites, another stain and another RNA batch. Ridge regression of the molecular score on genes, or on mean features.
- `LUAD RNA, survival`: TCGA-LUAD, RNA z-scores, clipped at ±5; five folds of whole tissue source sites; ridge Cox
  regression on 30 principal components.
- `LUAD slides, survival` and `LUAD slides, immune score`: human-interpretable features of H&E slides of the same patients,
  by ridge Cox regression, and by ridge regression on the ESTIMATE immune score that their RNA gives.

Corrections, fitted on training patients; those marked T also use the inputs (never the outcomes) of the tested patients of
each unseen site, so that a site must send several patients before the first can be predicted:

- `centred`: the mean of each training site is subtracted, shrunk by the site's size; unseen sites keep their means,
- `centred T`: the same, and unseen sites by their own means,
- `ComBat T`: means and spreads of each site with empirical Bayes (Johnson et al. 2007), unseen sites by their own inputs,
- `site subspace`: the five leading directions between the means of the training sites are projected out,
- `quantiles`: each sample's values are given the mean distribution of the training samples, by rank,
- `ranks`: each sample's values are replaced by normal scores of their ranks.

    python benchmarks/batch_correction.py --data ../shared/data --out docs/results/batch_correction
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.linear_model import RidgeCV

from dmml.cohort.gene_sets.gene_sets import SUBSPACES, genes_of, read_gene_sets
from dmml.evaluation.bootstrap import resamples, weighted_difference, weighted_interval
from dmml.evaluation.statistics.weighted import Weighted, at_index, harrell_pairs, pair_share
from dmml.evaluation.values.metrics import r_squared
from dmml.linear.ridge import cox_log_likelihood, fit_cox
from dmml.simulate.expression import draw_counts, gene_model, tpm
from dmml.simulate.tokens import draw_tokens
from dmml.simulate.truth import molecular_score
from dmml.simulate.world_patients import draw_world

SOURCES = ("luad", "shared", "site_shift")
PATIENTS, SEEDS, GENES, DIM = 150, (21, 22, 23, 24), 1000, 32
FOLDS, COMPONENTS, DIRECTIONS, PRIOR_PATIENTS = 5, 30, 5, 5.0
"""`PRIOR_PATIENTS`: number of patients at which a site's own mean counts half"""
INNER_FOLDS, PENALTIES = 3, np.logspace(0.5, -2, 6)
"""Folds and candidates of the choice of a Cox penalty, as multiples of the total variance of the columns"""


class Part(NamedTuple):
    """Patients of one side of a split."""

    x: np.ndarray
    site: np.ndarray


Correction = Callable[[Part, Part], tuple[np.ndarray, np.ndarray]]


def none(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as they are."""
    return train.x, test.x


def _shrunk_means(part: Part, centre: np.ndarray) -> np.ndarray:
    """Mean of each patient's site minus the centre, shrunk towards 0 by the size of the site. (n, p)."""
    shift = np.zeros_like(part.x)
    for site in np.unique(part.site):
        rows = part.site == site
        shift[rows] = (part.x[rows].mean(0) - centre) * rows.sum() / (rows.sum() + PRIOR_PATIENTS)
    return shift


def centred(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """Training sites without their means."""
    return train.x - _shrunk_means(train, train.x.mean(0)), test.x


def centred_unlabelled(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """All sites without their means."""
    centre = train.x.mean(0)
    return train.x - _shrunk_means(train, centre), test.x - _shrunk_means(test, centre)


def combat_unlabelled(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """ComBat without covariates; grand mean and spread of the training patients."""
    centre = train.x.mean(0)
    residual = np.concatenate(
        [train.x[train.site == s] - train.x[train.site == s].mean(0) for s in np.unique(train.site)]
    )
    spread = np.maximum(residual.std(0), 1e-6)
    return _combat(train, centre, spread), _combat(test, centre, spread)


def _combat(part: Part, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    z, corrected = (part.x - centre) / spread, np.empty_like(part.x)
    for site in np.unique(part.site):
        rows = part.site == site
        n, of_site = rows.sum(), z[rows]
        mean = of_site.mean(0)
        if n < 3:  # a spread needs a few patients
            shrink = n / (n + PRIOR_PATIENTS)
            corrected[rows] = centre + (of_site - shrink * mean) * spread
            continue
        variance = np.maximum(of_site.var(0, ddof=1), 1e-3)
        prior_mean, prior_variance = mean.mean(), max(mean.var(), 1e-6)
        m, v = variance.mean(), max(variance.var(), 1e-6)
        a, b = m**2 / v + 2, m**3 / v + m  # moments of the inverse gamma distribution
        gamma, delta = mean, variance
        for _ in range(20):
            gamma = (n * prior_variance * mean + delta * prior_mean) / (n * prior_variance + delta)
            delta = (b + ((of_site - gamma) ** 2).sum(0) / 2) / (n / 2 + a - 1)
        corrected[rows] = centre + (of_site - gamma) / np.sqrt(delta) * spread
    return corrected


def site_subspace(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """Inputs without the leading directions between the means of the training sites."""
    centre = train.x.mean(0)
    _, _, directions = np.linalg.svd(_shrunk_means(train, centre), full_matrices=False)
    basis = directions[:DIRECTIONS].T
    return tuple(x - (x - centre) @ basis @ basis.T for x in (train.x, test.x))


def quantiles(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """Each sample with the mean distribution of the training samples."""
    reference = np.sort(train.x, axis=1).mean(0)
    return tuple(np.interp(rankdata(x, axis=1), np.arange(1, x.shape[1] + 1), reference) for x in (train.x, test.x))


def ranks(train: Part, test: Part) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores of the ranks within each sample."""
    return tuple(norm.ppf((rankdata(x, axis=1) - 0.5) / x.shape[1]) for x in (train.x, test.x))


CORRECTIONS: dict[str, Correction] = {
    "centred": centred,
    "centred T": centred_unlabelled,
    "ComBat T": combat_unlabelled,
    "site subspace": site_subspace,
    "quantiles": quantiles,
    "ranks": ranks,
}
WITHIN_SAMPLE = ("quantiles", "ranks")
"""Corrections that compare a sample's columns, which must be on one scale: genes as measured"""


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns in standard deviations of the training patients, clipped at ±5."""
    centre, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 1e-9, scale, np.inf)
    return tuple(np.clip((x - centre) / scale, -5, 5) for x in (train, test))


def ridge(train: np.ndarray, value: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression, the penalty by leave-one-out error."""
    return RidgeCV(alphas=np.logspace(-1, 5, 19)).fit(train, value).predict(test)


def cox(train: np.ndarray, outcome: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge Cox regression on principal components, the penalty by cross-validation among training patients."""
    _, _, directions = np.linalg.svd(train, full_matrices=False)
    train, test = (x @ directions[:COMPONENTS].T for x in (train, test))
    fold, (time, event), scale = (
        np.random.default_rng(0).permutation(len(train)) % INNER_FOLDS,
        outcome.T,
        train.var(0).sum(),
    )
    held_out = []
    for penalty in PENALTIES * scale:
        risk = np.empty(len(train))
        for k in range(INNER_FOLDS):
            rest = fold != k
            risk[~rest] = train[~rest] @ fit_cox(train[rest], time[rest], event[rest], penalty)
        held_out.append(cox_log_likelihood(risk, time, event))
    return test @ fit_cox(train, time, event, PENALTIES[int(np.argmax(held_out))] * scale)


class Setting(NamedTuple):
    """Folds of one setting; each is (train, its outcome, test, its outcome)."""

    name: str
    folds: list[tuple[Part, np.ndarray, Part, np.ndarray]]
    is_survival: bool
    has_genes: bool


def simulated(world: str) -> Iterator[Setting]:
    """RNA and slides of a world."""
    column = {str(symbol): i for i, symbol in enumerate(gene_model().symbols)}
    sets = read_gene_sets(None)
    listed = [column[gene] for s in SUBSPACES for gene in genes_of(sets[s]) if gene in column]
    parts: dict[str, list] = {"RNA": [], "slides": []}
    for seed in SEEDS:
        both: dict[str, list] = {"RNA": [], "slides": []}
        for cohort in ("development", "held_out"):
            patients = draw_world(world, cohort, PATIENTS, seed)
            value, site = np.array([molecular_score(p) for p in patients]), np.array([p.site for p in patients])
            genes = np.log2(np.stack([tpm(draw_counts(p))[listed] for p in patients]) + 1)
            bags = [draw_tokens(p, 0, DIM, 0.8, (5, 7))[0] for p in patients]
            means = np.stack([np.hstack([bag[m].features.astype(float).mean(0) for m in sorted(bag)]) for bag in bags])
            both["RNA"] += [Part(genes, site), value]
            both["slides"] += [Part(means, site), value]
        variable = np.argsort(-both["RNA"][0].x.std(0))[:GENES]
        both["RNA"] = [Part(p.x[:, variable], p.site) if isinstance(p, Part) else p for p in both["RNA"]]
        for name, fold in both.items():
            parts[name].append(tuple(fold))
    for name, folds in parts.items():
        yield Setting(f"simulated {name}, {world}", folds, False, name == "RNA")


def luad(data: Path) -> Iterator[Setting]:
    """RNA and slides of TCGA-LUAD."""
    clinical = pd.read_csv(data / "tcga_luad" / "clinical.csv", dtype={"site": str}).set_index("patient_id")
    rna = pd.read_csv(data / "tcga_luad" / "mcat_luad_all_clean.csv.zip", low_memory=False).drop_duplicates("case_id")
    rna = rna.set_index("case_id").filter(regex="_rnaseq$").rename(columns=lambda name: name.removesuffix("_rnaseq"))
    rna = rna.astype(float).clip(-5, 5).fillna(0.0)
    survival = clinical[["os_days", "os_event"]].dropna()
    signatures = pd.read_csv(data / "genesets" / "estimate_signatures.csv")
    immune = set(signatures.loc[signatures["Category"] == "Immune", "Symbol"])
    immune_genes = [gene for gene in rna if gene in immune]
    hifs = pd.read_csv(data / "tcga_luad_histology" / "luad_hifs.csv.gz", low_memory=False, encoding="utf-8-sig")
    patients = hifs["case"].astype(str)
    hifs = hifs.filter(regex="_HE$").apply(pd.to_numeric, errors="coerce").replace(-1, np.nan)
    hifs = hifs.groupby(patients).mean().dropna(axis=1, thresh=int(0.8 * len(hifs)))
    hifs = np.sign(hifs) * np.log1p(hifs.abs())
    score = rna[immune_genes].mean(axis=1)
    yield _by_site("LUAD RNA, survival", rna, survival, clinical["site"], True, True)
    yield _by_site("LUAD slides, survival", hifs, survival, clinical["site"], True, False)
    yield _by_site("LUAD slides, immune score", hifs, score.to_frame(), clinical["site"], False, False)


def _by_site(
    name: str, inputs: pd.DataFrame, outcome: pd.DataFrame, site: pd.Series, is_survival: bool, has_genes: bool
) -> Setting:
    """Five folds of whole sites."""
    ids = sorted(set(inputs.index) & set(outcome.index) & set(site.dropna().index))
    x, y, sites = inputs.loc[ids], outcome.loc[ids].to_numpy(float), site.loc[ids].to_numpy(str)
    sizes = pd.Series(sites).value_counts()
    load, fold_of = np.zeros(FOLDS), {}
    for each, n in sizes.items():  # largest first, each into the emptiest fold
        fold_of[each] = int(load.argmin())
        load[fold_of[each]] += n
    fold = np.array([fold_of[s] for s in sites])
    folds = []
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        middle = x[train].median()
        filled = x.fillna(middle).to_numpy(float)
        outcomes = [y[rows] if is_survival else y[rows, 0] for rows in (train, test)]
        folds.append((Part(filled[train], sites[train]), outcomes[0], Part(filled[test], sites[test]), outcomes[1]))
    return Setting(name, folds, is_survival, has_genes)


def measure(setting: Setting) -> dict:
    """The metric of every correction over all test patients, and its difference to no correction."""
    fit = cox if setting.is_survival else ridge
    names = ["none", *(name for name in CORRECTIONS if setting.has_genes or name not in WITHIN_SAMPLE)]
    metrics: dict[str, Weighted] = {}
    truth = np.concatenate([fold[3] for fold in setting.folds])
    sizes = [len(fold[3]) for fold in setting.folds]
    starts = np.cumsum([0, *sizes[:-1]])
    for name in names:
        correct = CORRECTIONS.get(name, none)
        predicted = []
        for train, outcome, test, _ in setting.folds:
            if name not in WITHIN_SAMPLE:  # the corrections of sites see columns of equal spread
                a, b = standardised(train.x, test.x)
                train, test = Part(a, train.site), Part(b, test.site)
            predicted.append(fit(*(lambda x, z: (x, outcome, z))(*standardised(*correct(train, test)))))
        if setting.is_survival:
            pairs = [
                at_index(harrell_pairs(*fold[3].T, p), np.arange(start, start + len(p)))
                for fold, p, start in zip(setting.folds, predicted, starts, strict=True)
            ]
            metrics[name] = pair_share([each for fold in pairs for each in fold])
        else:
            metrics[name] = r_squared(truth, np.concatenate(predicted))
    strata = truth[:, 1] if setting.is_survival else np.repeat(np.arange(len(sizes)), sizes)
    weights = resamples(len(truth), strata)
    row = {"setting": setting.name, "n": len(truth), "metric": "concordance" if setting.is_survival else "R²"}
    row["sites"] = len({s for fold in setting.folds for s in fold[2].site})
    row["none"] = list(weighted_interval(metrics["none"], weights))
    row["differences"] = {
        name: list(weighted_difference(metrics[name], metrics["none"], weights))[:3] for name in names[1:]
    }
    return row


def text(entry: list[float], signs: bool = False) -> str:
    """0.71 (0.65 to 0.77), with true minus signs."""
    value, low, high = (f"{x:{'+' if signs else ''}.3f}".replace("-", "−") for x in entry)
    return f"{value} ({low} to {high})"


def page(rows: list[dict]) -> str:
    """The tables as Markdown."""
    seconds = sum(row["seconds"] for row in rows)
    head = "| setting | metric | patients | test sites | no correction |\n|---|---|---|---|---|"
    first = [f"| {r['setting']} | {r['metric']} | {r['n']} | {r['sites']} | {text(r['none'])} |" for r in rows]
    columns = "| setting | " + " | ".join(CORRECTIONS) + " |\n|---|" + "---|" * len(CORRECTIONS)
    second = [
        f"| {r['setting']} | "
        + " | ".join(_bold(r["differences"][name]) if name in r["differences"] else "" for name in CORRECTIONS)
        + " |"
        for r in rows
    ]
    return (
        "\n\n".join(
            [
                "# Correction of site effects",
                (__doc__ or "").split("\n\n    python")[0],
                f"Values in parentheses are 95 % bootstrap intervals over patients; {seconds:.0f} s of CPU.",
                "## Without a correction",
                "\n".join([head, *first]),
                "## With a correction, minus without, paired by patient",
                "Bold: the interval excludes 0.",
                "\n".join([columns, *second]),
            ]
        )
        + "\n"
    )


def _bold(entry: list[float]) -> str:
    return f"**{text(entry, True)}**" if entry[1] > 0 or entry[2] < 0 else text(entry, True)


def main() -> None:
    """Measure, and write OUT.md and OUT.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with tcga_luad and tcga_luad_histology")
    parser.add_argument("--out", type=Path, default=Path("docs/results/batch_correction"))
    parser.add_argument(
        "--sources", nargs="*", default=SOURCES, help="measure these, and keep the other rows of OUT.json"
    )
    args = parser.parse_args()
    sources = {"luad": luad(args.data), "shared": simulated("shared"), "site_shift": simulated("site_shift")}
    path, start = args.out.with_suffix(".json"), time.process_time()
    for source in args.sources:
        for setting in sources[source]:
            row = measure(setting) | {"seconds": time.process_time() - start}
            start = time.process_time()
            kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            rows = sorted(
                [each for each in kept if each["setting"] != row["setting"]] + [row], key=lambda r: r["setting"]
            )
            path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            args.out.with_suffix(".md").write_text(page(rows), encoding="utf-8")
            print(setting.name, f"{row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()

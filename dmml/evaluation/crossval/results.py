"""Read a finished cross-validation: `crossval.json`, `oof_predictions.csv`, and the records of how it was run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.evaluation import interval_settings
from dmml.evaluation.result_folders import read_json

if TYPE_CHECKING:
    import pandas as pd

    from dmml.evaluation.endpoints import Endpoint

JOINED = "+clinical"
"""Suffix of models that are joined with the clinical covariates."""
AGAIN = "run `dmml crossval … --collect` again"

Fit = Mapping[str, int]
"""Which fit a value belongs to: {"repeat", "fold", "seed"}, an entry of `units` in `crossval.json`."""


@dataclass(frozen=True)
class CrossvalResult:
    """Metrics and out-of-fold predictions of every model.

    Attributes:
        folder: Folder of the cross-validation.
        content: Content of `crossval.json`.
        plan: `plan.json`: the sections of the configs and the hashes of the files; empty if it is lost.
        record: `provenance.json`: the command and the versions; empty if there is none.
    """

    folder: Path
    content: dict[str, Any]
    plan: dict[str, Any]
    record: dict[str, Any]

    @property
    def cohort(self) -> str:
        """Name of the cohort."""
        return str(self.content["cohort"])

    @cached_property
    def endpoint(self) -> Endpoint:
        """What evaluation knows of the endpoint."""
        from dmml.evaluation.endpoints.find import endpoint_of

        return endpoint_of(self.content)

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return str(self.content["primary_metric"])

    @property
    def models(self) -> dict[str, dict[str, dict]]:
        """Results of each model: {model: {metric: {folds, mean, sd, pooled}}}."""
        return self.content["models"]

    @property
    def fits(self) -> list[Fit]:
        """All fits of a model, in the order of the values in `folds` of its metrics."""
        return self.content["units"]

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """All paired comparisons: {a, b, metric, difference, low, high, p, …}."""
        return self.content["paired"]

    @property
    def primary_comparison(self) -> dict[str, Any] | None:
        """The comparison that was fixed beforehand; None if there is none."""
        return next((row for row in self.comparisons if row.get("primary")), None)

    @property
    def level(self) -> float:
        """Level of the intervals; results of an earlier dmml, which do not record it, have the present one."""
        return float(self.content.get("level", interval_settings.LEVEL))

    @property
    def n_resamples(self) -> int:
        """Number of bootstrap resamples; results of an earlier dmml have the present one."""
        return int(self.content.get("resamples", interval_settings.RESAMPLES))

    @property
    def hazard_ratios(self) -> dict[str, dict[str, Any]]:
        """{model: hazard ratio of high against low risk}; empty for classes and for results of an earlier dmml."""
        return dict(self.content.get("hazard_ratio") or {})

    @property
    def n_folds(self) -> int:
        """Number of folds, over all repeats."""
        return len({(fit["repeat"], fit["fold"]) for fit in self.fits})

    @property
    def n_repeats(self) -> int:
        """Number of repeats."""
        return len({fit["repeat"] for fit in self.fits})

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len({fit["seed"] for fit in self.fits})

    def fit_name(self, fit: Fit) -> str:
        """Name of a fold, with its repeat and seed if there are several."""
        repeat = [f"repeat {fit['repeat']}"] if self.n_repeats > 1 else []
        seed = [f"seed {fit['seed']}"] if self.n_seeds > 1 else []
        return ", ".join([f"fold {fit['fold']}", *repeat, *seed])

    def pooled(self, model: str) -> dict[str, Any]:
        """{value, low, high} of the primary metric, pooled over folds."""
        return self.models[model][self.metric]["pooled"]

    def comparison(self, a: str, b: str) -> dict[str, Any] | None:
        """The comparison a − b, or None if it was not made."""
        return next((row for row in self.comparisons if (row["a"], row["b"]) == (a, b)), None)

    @property
    def inputs(self) -> set[str]:
        """Which of "RNA" and "slides" the cohort has."""
        if "data" in self.plan:
            keys = {"RNA": "expression", "slides": "features"}
            return {name for name, key in keys.items() if self.plan["data"].get(key)}
        models = {"RNA": {"rna_linear", "rna_network"}, "slides": {"histology_abmil", "histology_mean"}}
        return {name for name, needing in models.items() if needing & set(self.models)}

    @property
    def added_baselines(self) -> dict[str, list[str]]:
        """Which of "RNA" and "slides" each baseline reads that was added with `--baselines`."""
        return {name: entry["reads"] for name, entry in self.content.get("baselines", {}).items()}

    @property
    def covariates(self) -> list[str]:
        """Names of the clinical covariates."""
        entries = self.plan.get("data", {}).get("covariates") or []
        return [str(entry["name"] if isinstance(entry, dict) else entry) for entry in entries]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """`oof_predictions.csv`, with patient ids and labels as text.

        Raises:
            InputError: The file cannot be read or lacks a column.
        """
        import pandas as pd

        path = self.folder / "oof_predictions.csv"
        text = {name: str for name in ("model", "patient_id", "label")}
        try:
            table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"label": [""]})
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a table ({error}); {AGAIN}") from None
        if absent := {"model", "fold", "patient_id"} - set(table):
            raise InputError(f"{path} has no column {min(absent)}; {AGAIN}")
        for name in table.columns.difference([*text]):
            table[name] = pd.to_numeric(table[name], errors="coerce")
        return table

    def predictions_of(self, model: str) -> pd.DataFrame:
        """Predictions of a model's first repeat and seed, with each patient once, in the first fold that tested them.

        With random splits, which can be read from a file, some patients are tested in several folds.
        """
        rows = self.predictions[self.predictions["model"] == model]
        for column in ("repeat", "seed"):
            if column in rows:
                rows = rows[rows[column] == rows[column].min()]
        rows = rows.drop_duplicates("patient_id")
        return rows.dropna(axis="columns", how="all").reset_index(drop=True)

    @property
    def outlying_folds(self) -> list[dict[str, Any]]:
        """Outlying folds of each model, see `outlying_folds`; empty for results of an earlier dmml."""
        return list(self.content.get("outlying_folds") or [])

    def fit_folder(self, fit: Fit, model: str) -> Path:
        """Folder of a fitted model; a model without randomness was fitted only once for all seeds."""
        repeat = self.folder / f"repeat_{fit['repeat']}" if fit["repeat"] else self.folder
        fold = repeat / f"fold_{fit['fold']}"
        seeded = fold / f"seed_{fit['seed']}" / model
        return seeded if fit["seed"] and seeded.is_dir() else fold / model

    def context(self, fit: Fit, model: str) -> Mapping[str, Any]:
        """What was fitted on the fold's training patients, from `context.json`; empty if the file is lost.

        Raises:
            InputError: The file is damaged.
        """
        path = self.fit_folder(fit, model) / "context.json"
        return read_json(path, AGAIN)

    def context_by_fold(self, model: str, key: str) -> dict[int, Any]:
        """{fold: value of `key` in its `context.json`} for the first repeat and seed; folds without it are left out.

        Raises:
            InputError: A context is damaged.
        """
        values = {}
        for fold in sorted({fit["fold"] for fit in self.fits}):
            value = self.context({"repeat": 0, "fold": fold, "seed": 0}, model).get(key)
            if value is not None:
                values[fold] = value
        return values


def is_crossval(folder: Path) -> bool:
    """Whether a folder is that of a cross-validation, finished or not."""
    return (folder / "crossval.json").is_file() or (folder / "plan.json").is_file()


def read_crossval(folder: Path) -> CrossvalResult:
    """Read the folder of a cross-validation.

    Raises:
        InputError: The cross-validation was not collected yet, or a file is damaged.
    """
    path = folder / "crossval.json"
    if not path.is_file():
        raise InputError(f"{folder} has no crossval.json, because some folds are not finished; {AGAIN}")
    content = read_json(path, AGAIN)
    required = {"cohort": str, "primary_metric": str, "models": dict, "units": list, "paired": list}
    for key, kind in required.items():
        if not isinstance(content.get(key), kind):
            raise InputError(f"{path} has no {key}; {AGAIN}")
    if not content["models"] or content["primary_metric"] not in next(iter(content["models"].values())):
        raise InputError(f"{path} has no model with the metric {content['primary_metric']}; {AGAIN}")
    plan, record = (read_json(folder / name, AGAIN) for name in ("plan.json", "provenance.json"))
    return CrossvalResult(folder, dict(content), dict(plan), dict(record))

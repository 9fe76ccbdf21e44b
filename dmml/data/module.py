"""The data module, which turns a cohort's tables and features into batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_summary import cohort_words
from dmml.cohort.rna.standardise import check_standardise_stage
from dmml.cohort.section import read_cohort
from dmml.data.dataset import Collate, PatientReader
from dmml.data.encoder_match import check_slides_match, refuse_other_encoder, refuse_other_grid
from dmml.data.feature_statistics import fillings, fit_feature_statistics
from dmml.data.fitting import censoring_curve, check_outcome, check_part, content_hashes, horizons_reached, part_counts
from dmml.data.joined_store import JoinedStore
from dmml.data.loading import Loading
from dmml.data.rna import STANDARDISE, CohortRna, told
from dmml.errors import InputError
from dmml.store import FeatureStore
from dmml.types import SUBSPACES

OUTCOME = ("time", "event", "label")
"""Names of the outcome columns in a cohort, whatever they are called in the source table."""


class MultimodalDataModule(LightningDataModule):
    """Slide features and RNA of a cohort's patients, one item per patient, who may have either modality or both.

    The module holds the tables; what was fitted to training patients belongs to the model, and is read from the model
    when a loader is made. Paths are relative to the working directory.

    Args:
        clinical: Clinical table with one row per slide or per patient.
        name: Name of the cohort in results; default: the name of the clinical file's folder.
        patient_id: Column of the patient's id.
        slide_id: Column of the slide's id (file stem), if the table has one.
        outcome: {time, event | censored, unit: days | months | years}, or {label: column}; None for prediction.
        covariates: Clinical columns kept for comparison, each by name or as {name, levels}; they never enter a network.
        expression: RNA table, or {path, patient_id, suffix, scale}; None = no RNA.
        gene_sets: {tumor: path, tme: path}; None = the shipped lists; {preset: paper} = as many genes as the paper
            uses, chosen on training patients.
        features: Feature store; None = no slides.
        split: {folds, stratify, site, seed}, a CSV `patient_id,fold`, or a folder of `splits_<k>.csv`; None: `test`
            and `predict` use all patients, and `fit` takes its inner validation patients from all.
        fold: Which fold of the split is the outer test fold.
        magnifications: Magnifications to read.
        batch_size: Maximum number of patients per batch.
        num_workers: Number of worker processes that read ahead; 0 reads in the training process, with a cache.
        cache_gib: Memory for caching patients that were read, in GiB (only with `num_workers=0`).
        seed: Seed of the order of the training patients and of the draw of their tokens.
        max_tokens, token_budget, pack, balance: See `dmml.data.loading.Loading`.
        standardise: `training`: RNA by the training patients' mean and spread. `within_cohort`: a tested cohort by its
            patients' mean and spread (transductive), for another platform; adds `_transductive` to the results' name.
        also: Further cohorts trained together with this one, each as a data section with the arguments of this class.
        recalibrate: Share of a tested cohort, above 0 and below 1, on which predictions are recalibrated; the rest is
            evaluated before and after in `recalibrated.json`, apart from the main results. None = no recalibration.
    """

    def __init__(
        self,
        clinical: str,
        name: str | None = None,
        patient_id: str = "patient_id",
        slide_id: str = "slide_id",
        outcome: dict | None = None,
        covariates: list[str | dict] | None = None,
        expression: str | dict | None = None,
        gene_sets: str | dict | None = None,
        features: str | None = None,
        split: str | dict | None = None,
        fold: int = 0,
        magnifications: list[int] | tuple[int, ...] = (10, 20),
        batch_size: int = 8,
        num_workers: int = 0,
        cache_gib: float = 2.0,
        seed: int = 0,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        pack: int = 1,
        balance: bool = False,
        standardise: str = "training",
        also: list | None = None,
        recalibrate: float | None = None,
    ):
        super().__init__()
        if standardise not in STANDARDISE:
            raise InputError(f"data.standardise: {standardise!r}; one of {', '.join(STANDARDISE)}")
        if features is None and expression is None:
            raise InputError("data names neither features nor expression; give at least one of them")
        self.section = {
            "clinical": clinical, "name": name, "patient_id": patient_id, "slide_id": slide_id, "outcome": outcome,
            "covariates": covariates, "expression": expression, "features": features, "gene_sets": gene_sets,
            "split": split, "fold": fold, "also": also,
        }  # fmt: skip
        if recalibrate is not None and not 0 < recalibrate < 1:
            raise InputError(
                f"data.recalibrate: {recalibrate} is no share of a cohort; give one between 0 and 1, or null"
            )
        self.standardise, self.recalibrate = standardise, recalibrate
        self.features, self.magnifications = features, tuple(magnifications)
        self.batch_size, self.num_workers, self.cache_gib, self.seed = batch_size, num_workers, cache_gib, seed
        self.loading = {"max_tokens": max_tokens, "token_budget": token_budget, "pack": pack, "balance": balance}
        self.cohort: Cohort | None = None
        self._statistics: tuple[list[str], dict] | None = None

    # ---- tables ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the tables and open the store, once; split the patients by stage, and print how many can be used."""
        check_standardise_stage(self.standardise, stage)
        if self.cohort is None:
            self.use_cohort(read_cohort(self.section))
        train, val, test = self.cohort.partition(stage)
        self._listed = {"train": train, "val": val, "test": test, "outer_test": test if self.cohort.split else []}
        self._parts = {part: self._usable(patients) for part, patients in self._listed.items()}
        self._parts["val"] = [p for p in self._parts["val"] if self.cohort.clinical.observed[p]]
        self._used_parts = {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",))
        for part in self._used_parts:
            self._say(part)

    def use_cohort(self, cohort: Cohort) -> None:
        """Use these tables and open their feature stores; `setup` reads the tables unless this was called before."""
        self.cohort = cohort
        self.name = self.cohort.result_name(self.standardise)
        members = self.cohort.members or [self.cohort]
        stores = {member.features: FeatureStore(member.features) for member in members if member.features}
        self.store = None if not stores else next(iter(stores.values())) if len(stores) == 1 else JoinedStore(stores)
        slides: dict[str, list[str]] = {}
        for member in members:
            if member.features:
                refuse_other_grid(member.features, stores[member.features], self.magnifications)
                names = stores[member.features].names()
                matched = member.clinical.match_slides(names)
                check_slides_match(member.features, names, member.clinical, matched)
                slides |= matched
        self.reader = PatientReader(self.store, slides, self.magnifications, 0 if self.num_workers else self.cache_gib)
        self.rna = None if self.cohort.expression is None else CohortRna(self.cohort, self.standardise)
        for line in cohort_words(self.cohort):
            self._tell(f": {line}")

    @rank_zero_only
    def _tell(self, what: str) -> None:
        print(f"{self.name}{what}")

    def _say(self, part: str) -> None:
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in self.counts(part).items())
        self._tell(f", {part}: {counts}")

    def patients(self, part: str) -> list[str]:
        """Usable patients of "train", "val" (inner validation), "test" or "outer_test" (empty without a split)."""
        return self._parts[part]

    def listed(self, part: str) -> list[str]:
        """Ids of all patients of a part; some may have neither slides nor RNA."""
        return self._listed[part]

    def _usable(self, patients: Iterable[str]) -> list[str]:
        return [patient for patient in patients if self.has_tissue(patient) or self.has_expression(patient)]

    def has_tissue(self, patient: str) -> bool:
        """Whether the store holds a slide of the patient."""
        return bool(self.reader.slides.get(patient))

    def has_expression(self, patient: str) -> bool:
        """Whether the patient has RNA."""
        return self.rna is not None and patient in self.rna

    def counts(self, part: str) -> dict[str, int]:
        """Count the patients of a part, in total and by kind; see `part_counts`."""
        return part_counts(self, part)

    # ---- what the model reads when it is fitted ----------------------------------------------------------------

    @property
    def n_features(self) -> int:
        """Width D of the features; 0 for a cohort without slides."""
        return 0 if self.store is None else self.store.n_features

    def programs(self) -> dict[str, dict[str, list[str]]]:
        """Gene sets restricted to the genes of the table, or to those that a preset chooses; empty without RNA."""
        return {} if self.rna is None else self.rna.programs(self.patients("train"))

    def outcome(self, patients: list[str]) -> dict[str, np.ndarray]:
        """{time, event} or {label} of patients; NaN or None where unknown."""
        table = self.cohort.clinical.patients.loc[patients]
        return {name: table[name].to_numpy() for name in OUTCOME if name in table}

    def training_outcome(self) -> dict[str, np.ndarray]:
        """Outcomes of the training patients only."""
        outcome = self.outcome(self.patients("train"))
        if not outcome:
            raise InputError(
                f"{self.section['clinical']}: data.outcome names no column to learn; give {{time, event, unit}} or {{label}}"
            )
        return outcome

    def fitted(self, genes: dict[str, list[str]]) -> dict[str, Any]:
        """Everything else that is fitted on training patients, in plain Python; see `SubspaceModule.fitted`."""
        train = self.patients("train")
        used = [s for s in SUBSPACES if self.rna is not None and genes.get(s)]
        outcome = self.outcome(train)
        return {
            "gene_statistics": {s: self.rna.fit(train, genes[s]) for s in used},
            "feature_statistics": self.feature_statistics(train),
            "encoder": {} if self.store is None else self.store.attributes["encoder"],
            "censoring": censoring_curve(outcome) if "time" in outcome else None,
            "horizons": horizons_reached(outcome) if "time" in outcome else None,
            "cohort": self.name,
            "fold": self.cohort.tested_fold,
            "gene_preset": self.cohort.preset,
            "n_training": len(train),
            "hashes": self.hashes(self._parts),
        }

    def feature_statistics(self, patients: list[str]) -> dict[str, dict[str, list[float]]]:
        """See `fit_feature_statistics`; the last result is cached, since the models of a fold share their patients."""
        if self.store is None:
            return {}
        if self._statistics is None or self._statistics[0] != patients:
            self._statistics = patients, fit_feature_statistics(self.reader, patients, self.magnifications)
        return self._statistics[1]

    def hashes(self, parts: Mapping[str, list[str]]) -> dict[str, str]:
        """Hashes of the tables, of the cohort's slides and of the partition of the patients; see `content_hashes`."""
        slides = [slide for ids in self.reader.slides.values() for slide in ids]
        return content_hashes(self.section, parts, None if self.store is None else self.store.digests(slides))

    def check(self, module: Any) -> None:
        """Refuse a cohort that a trained model cannot read; print how RNA that it can read only in part is handled.

        Raises:
            InputError: The features come from another encoder, or the RNA is on another scale or lacks too many genes.
        """
        if self.store is not None:
            refuse_other_encoder(self.features or self.store.path, self.store, module.n_features, module.fitted)
        if (facts := self.rna_facts(module)) and (line := told(facts)):
            self._tell(f": {line}")

    def rna_facts(self, module: Any) -> dict[str, Any]:
        """How the RNA of this stage's patients was prepared for the model; empty without RNA. See `CohortRna.facts`."""
        statistics = getattr(module, "fitted", {}).get("gene_statistics") or {}
        used = [patient for part in self._used_parts for patient in self.patients(part)]
        return {} if self.rna is None or not statistics else self.rna.facts(statistics, used)

    # ---- loaders -----------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """Training patients, in a new order every epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Inner validation patients, on whom the best epoch is chosen."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """The outer test fold, or all patients of a cohort without a split."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        """The patients of `test_dataloader`, without targets."""
        return self._loader("test", with_target=False)

    def mean_batch(self) -> float:
        """Average number of patients in a training batch: `batch_size`, or fewer under a `token_budget`."""
        loading = Loading(self.batch_size, **self.loading)
        return loading.mean_batch(self.reader, self.patients("train"))

    def train_patients_in_order(self) -> DataLoader:
        """Training patients in a fixed order, all on every process, e.g. for the median risk of a trained model."""
        return self._loader("train", with_target=False, sharded=False)

    def _loader(self, part: str, shuffle: bool = False, with_target: bool = True, sharded: bool = True) -> DataLoader:
        check_part(self, part)
        patients = self.patients(part)
        loading = Loading(self.batch_size, self.num_workers, self.seed, **self.loading)
        collate, outcome = self.collate(patients, with_target), self.outcome(patients)
        groups = outcome.get("event", outcome.get("label"))
        return loading.loader(self.reader, patients, collate, self.trainer if sharded else None, groups, shuffle)

    def collate(self, patients: list[str], with_target: bool = True) -> Collate:
        """Make the collation: RNA standardised with the model's statistics, and targets encoded by the model's task."""
        module = self.trainer.lightning_module
        expression, has_expression = {}, torch.zeros(len(patients), dtype=torch.bool)
        statistics = getattr(module, "fitted", {}).get("gene_statistics") or {}
        if self.rna is not None and statistics:
            has_expression = torch.tensor([self.has_expression(p) for p in patients])
            expression = {s: torch.from_numpy(self.rna.rows(patients, kept)) for s, kept in statistics.items()}
        target = {}
        if with_target and self.cohort.clinical.kind is not None:
            check_outcome(module.task, self)
            target = module.task.encode(self.outcome(patients))
        fill = fillings(self.store, getattr(module, "fitted", {}))
        return Collate(self.magnifications, patients, expression, has_expression, target, fill)

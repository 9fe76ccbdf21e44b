"""The data module, which turns a cohort's tables and features into batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_summary import describe_cohort
from dmml.cohort.section import read_cohort
from dmml.data.cohort_features import open_features
from dmml.data.collate import Collate
from dmml.data.data_config import DataConfig
from dmml.data.dataset import PatientReader
from dmml.data.encoder_match import check_same_encoder, describe_other_tiles
from dmml.data.feature_statistics import fillings, fit_feature_statistics
from dmml.data.fitted_model import FittedModel
from dmml.data.fitting import check_outcome, check_part, content_hashes, count_patients, training_statistics
from dmml.data.loaders import make_loader, mean_batch_size
from dmml.data.rna import CohortRna, describe_rna_facts
from dmml.errors import InputError

LOGGER = logging.getLogger(__name__)
OUTCOME = ("time", "event", "label", "value")
"""Names of the outcome columns in a cohort, whatever they are called in the source table."""


class MultimodalDataModule(LightningDataModule):
    """Slide features and RNA of a cohort's patients, one item per patient, who may have either modality or both.

    The module holds the tables; what was fitted to training patients belongs to the model, and is read from the model
    when a loader is made. Nothing is read before `setup`.

    Args:
        clinical: Clinical table with one row per slide or per patient.
        arguments: All other arguments of a data section, by name: the fields of `dmml.cohort.cohort_config.CohortConfig`
            and of `dmml.data.data_config.Loading`, which say what they mean and give their defaults.

    Raises:
        InputError: Neither expression nor features is named, or a value is refused.
    """

    def __init__(self, clinical: str, **arguments: object):
        super().__init__()
        # jsonargparse reads the arguments' names, types and defaults from this call.
        self.config = DataConfig(clinical, **arguments)  # type: ignore[arg-type]  # DataConfig states their types
        self.magnifications = tuple(self.config.magnifications)
        self._cohort: Cohort | None = None
        self._logged: set[str] = set()
        self._statistics: tuple[list[str], dict[str, dict[str, list[float]]]] | None = None

    # ---- the config --------------------------------------------------------------------------------------------

    @property
    def features(self) -> str | None:
        """Path or URL of the feature store, of the first cohort if there are several; None without slides."""
        return self.config.features

    @property
    def standardise(self) -> str:
        """Whose mean and spread standardise a tested cohort's RNA; one of `STANDARDISE`."""
        return self.config.standardise

    @property
    def recalibrate(self) -> float | None:
        """Share of a tested cohort on which predictions are recalibrated."""
        return self.config.recalibrate

    @property
    def batch_size(self) -> int:
        """Maximum number of patients per batch, which Lightning's search for a batch size may set."""
        return self.config.batch_size

    @batch_size.setter
    def batch_size(self, patients: int) -> None:
        self.config = replace(self.config, batch_size=patients)

    # ---- tables ------------------------------------------------------------------------------------------------

    @property
    def cohort(self) -> Cohort:
        """The cohort, once its tables were read (`has_cohort`)."""
        if self._cohort is None:
            raise RuntimeError("the cohort's tables are read by `setup`, which was not called yet")
        return self._cohort

    @property
    def has_cohort(self) -> bool:
        """Whether the tables were read."""
        return self._cohort is not None

    def setup(self, stage: str) -> None:
        """Read the tables and open the store, once; divide the patients by stage, and log how many can be used."""
        self.config.check_stage(stage)
        if not self.has_cohort:
            self.use_cohort(read_cohort(self.config))
        train, val, test = self.cohort.partition(stage)
        self._listed = {"train": train, "val": val, "test": test, "outer_test": test if self.cohort.split else []}
        self._parts = {part: self._usable(patients) for part, patients in self._listed.items()}
        self._parts["val"] = list(filter(self.cohort.clinical.observed.get, self._parts["val"]))
        self._used_parts = {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",))
        for part in self._used_parts:
            self.log_counts(part)

    def use_cohort(self, cohort: Cohort) -> None:
        """Use these tables and open their feature stores; `setup` reads the tables unless this was called before."""
        self._cohort = cohort
        self.name = cohort.result_name(self.config.standardise)
        self.store, slides = open_features(cohort, self.magnifications)
        cache_gib = 0 if self.config.num_workers else self.config.cache_gib
        self.reader = PatientReader(self.store, slides, self.magnifications, cache_gib)
        self.rna = None if cohort.expression is None else CohortRna(cohort, self.config.standardise)
        for line in describe_cohort(cohort):
            self.log_line(f"{self.name}: {line}")

    @rank_zero_only
    def log_line(self, line: str, level: int = logging.INFO) -> None:
        """Log a line about the cohort, once and on the first process only."""
        if line not in self._logged:
            self._logged.add(line)
            LOGGER.log(level, line)

    def log_counts(self, part: str) -> None:
        """Log the numbers of patients of a part, by what they have."""
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in self.counts(part).items())
        self.log_line(f"{self.name}, {part}: {counts}")

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
        """Count the patients of a part, in total and by kind; see `count_patients`."""
        return count_patients(self, part)

    # ---- what the model reads when it is fitted ----------------------------------------------------------------

    @property
    def n_features(self) -> int:
        """Width D of the features; 0 for a cohort without slides."""
        return 0 if self.store is None else self.store.n_features

    def programs(self) -> dict[str, dict[str, list[str]]]:
        """Gene sets restricted to the genes of the table, or to those that a rule of `gene_sets` chooses; empty without RNA."""
        return {} if self.rna is None else self.rna.programs(self.patients("train"))

    def outcome(self, patients: list[str]) -> dict[str, np.ndarray]:
        """{time, event}, {label} or {value} of patients; NaN or None where unknown."""
        table = self.cohort.clinical.patients.loc[patients]
        return {name: table[name].to_numpy() for name in OUTCOME if name in table}

    def training_outcome(self) -> dict[str, np.ndarray]:
        """Outcomes of the training patients only."""
        outcome = self.outcome(self.patients("train"))
        if not outcome:
            raise InputError(
                f"{self.config.clinical}: data.outcome names no column to learn; give {{time, event, unit}}, {{label}} or {{value}}"
            )
        return outcome

    def fitted(self, genes: dict[str, list[str]]) -> dict[str, Any]:
        """Everything else that is fitted on training patients, in plain Python; see `SubspaceModule.fitted`."""
        return training_statistics(self, genes)

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
        digests = None if self.store is None else self.store.digests(slides)
        return content_hashes(self.config.section(), parts, digests)

    def check(self, module: FittedModel) -> None:
        """Refuse a cohort that a trained model cannot read; log what it reads otherwise than in training: tiles and RNA.

        Raises:
            InputError: The features come from another encoder, or the RNA is on another scale or lacks too many genes.
        """
        if self.store is not None:
            check_same_encoder(self.features or self.store.path, self.store, module.n_features, module.fitted)
            if difference := describe_other_tiles(self.store, module.fitted):
                self.log_line(f"{self.name}: {difference}", logging.WARNING)
        if (facts := self.rna_facts(module)) and (description := describe_rna_facts(facts)):
            self.log_line(f"{self.name}: {description}")

    def rna_facts(self, module: FittedModel) -> dict[str, Any]:
        """How the RNA of this stage's patients was prepared for the model; empty without RNA. See `CohortRna.facts`."""
        statistics = _gene_statistics(module)
        patients = [patient for part in self._used_parts for patient in self.patients(part)]
        return {} if self.rna is None or not statistics else self.rna.facts(statistics, patients)

    # ---- loaders -----------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """Training patients, in a new order every epoch."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        """Inner validation patients, on whom the best epoch is chosen."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """The outer test fold, or all patients of a cohort without a split."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        """The patients of `test_dataloader`, without targets."""
        return self._loader("test", with_target=False)

    def train_patients_in_order(self) -> DataLoader:
        """Training patients in a fixed order, all on every process, e.g. for the median risk of a trained model."""
        return self._loader("train", with_target=False, sharded=False)

    def val_patients_in_order(self) -> DataLoader:
        """Inner validation patients with targets, all on every process."""
        return self._loader("val", sharded=False)

    def mean_batch(self) -> float:
        """Average number of patients in a training batch: `batch_size`, or fewer under a `token_budget`."""
        return mean_batch_size(self.config, self.reader, self.patients("train"))

    def _loader(self, part: str, training: bool = False, with_target: bool = True, sharded: bool = True) -> DataLoader:
        check_part(self, part)
        patients = self.patients(part)
        outcome = self.outcome(patients)
        return make_loader(
            self.config,
            self.reader,
            patients,
            self.collate(patients, with_target),
            self.trainer if sharded else None,
            groups=outcome.get("event", outcome.get("label")),
            training=training,
        )

    def collate(self, patients: list[str], with_target: bool = True) -> Collate:
        """Make the collation: RNA standardised with the model's statistics, and targets encoded by the model's task."""
        module = self._model()
        expression, has_expression = {}, torch.zeros(len(patients), dtype=torch.bool)
        statistics = _gene_statistics(module)
        if self.rna is not None and statistics:
            has_expression = torch.tensor([self.has_expression(p) for p in patients])
            expression = {s: torch.from_numpy(self.rna.rows(patients, kept)) for s, kept in statistics.items()}
        target = {}
        if with_target and self.cohort.clinical.kind is not None:
            check_outcome(module.task, self)
            target = module.task.encode(self.outcome(patients))
        fill = fillings(self.store, getattr(module, "fitted", {}))
        return Collate(self.magnifications, patients, expression, has_expression, target, fill)

    def _model(self) -> FittedModel:
        """The model that the trainer fits or tests; one of a user's own may have nothing fitted."""
        if self.trainer is None:
            raise RuntimeError("loaders are made for the model of a trainer, and the data module has no trainer")
        return cast(FittedModel, self.trainer.lightning_module)


def _gene_statistics(module: FittedModel) -> dict[str, dict[str, Any]]:
    """{subspace: statistics} of the model's genes; empty for a model without RNA, or without anything fitted."""
    return getattr(module, "fitted", {}).get("gene_statistics") or {}

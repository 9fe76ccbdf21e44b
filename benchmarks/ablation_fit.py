"""One fit of the ablation: a variant on one seed, fitted as by `dmml fit`, measured on the test patients and kept.

A result is a JSON file with a digest of everything that determines it, so that a second run repeats only what changed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import logging
import os
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_measures import ceilings, partial_r2
from ablation_variants import BY_NAME, TEACHER, TEACHING, Variant
from known_factors import FOLLOW_UP, World, build
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

import dmml
from dmml.callbacks.coordination import GradientCoordination
from dmml.evaluation.metrics import concordance_index
from dmml.training.checkpointing.checkpoint import class_config
from dmml.training.student import SubspaceStudent
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import SUBSPACES

MADE_BY = (
    *(f"{room}/*" for room in ("nn", "functional", "tasks", "training", "callbacks")),
    *(f"simulate/{name}" for name in ("truth", "tokens", "expression", "regions")),
)
"""Files of dmml whose code determines a fit; those of rival networks are left out"""


DONE, MISSING, OTHER_SETTINGS, OTHER_CODE = "done", "missing", "other settings", "another state of the code"


@dataclass(frozen=True)
class Settings:
    """Settings that all fits of an ablation share."""

    train: int = 120
    val: int = 30
    test: int = 400
    features: int = 64
    """Width of the token features"""
    visibility: float = 0.8
    """Correlation between each factor and the factor as the slide shows it"""
    nuisance: float = 1.0
    """Length of the irrelevant differences between slides"""
    early_end: bool = True
    """Whether follow-up ends early, so that a third of the patients has the event"""
    width: int = 64
    epochs: int = 30
    patience: int = 12
    """Epochs without a better validation loss after which a fit ends, as in `dmml fit`"""
    batch_size: int = 8


# ---- what determines a result --------------------------------------------------------------------------------------


def describe(variant: Variant, settings: Settings) -> dict[str, Any]:
    """Everything that determines a variant's result except seed and code, including the current defaults, in plain Python."""
    kind = _class_of(variant)
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    arguments = {name: class_config(value) for name, value in (defaults | variant.arguments).items()}
    teacher = None if variant.teacher is None else describe(BY_NAME[variant.teacher], settings)
    fields = {name: getattr(variant, name) for name in ("task", "coordination", "rna", "shuffled_rna")}
    return fields | {
        "class": kind.__name__,
        "arguments": {name: repr(value) for name, value in arguments.items()},
        "teacher": teacher,
        "settings": asdict(settings),
    }


def digest(description: dict[str, Any]) -> str:
    """Short hash of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:12]


def _code_state() -> str:
    sources = sorted(path for files in MADE_BY for path in Path(dmml.__file__).parent.glob(f"{files}.py"))
    trees = [ast.parse(path.read_text()) for path in sources if not path.stem.startswith("baseline")]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256("".join(map(ast.dump, trees)).encode()).hexdigest()[:12]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


CODE = _code_state()
"""Short hash of the imported code without comments and docstrings"""


def result_path(work: Path, name: str, seed: int) -> Path:
    """Path of the result of a variant on a seed."""
    return work / f"seed_{seed}" / f"{name}.json"


def teacher_path(work: Path, name: str, seed: int, settings: Settings) -> Path:
    """Path of a teacher's weights for its students; it depends on the settings."""
    return work / "teachers" / f"{name}_{seed}_{digest(describe(BY_NAME[name], settings))}.ckpt"


def state_of(work: Path, variant: Variant, seed: int, settings: Settings) -> str:
    """State of a fit: `DONE`, `MISSING`, or made with other settings or by another state of the code."""
    path = result_path(work, variant.name, seed)
    if not path.is_file():
        return MISSING
    kept = json.loads(path.read_text())
    if kept["digest"] != digest(describe(variant, settings)):
        return OTHER_SETTINGS
    if variant.name in TEACHING and not teacher_path(work, variant.name, seed, settings).is_file():
        return MISSING
    return DONE if kept["code"] == CODE else OTHER_CODE


# ---- fitting -------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _world(seed: int, settings: Settings) -> World:
    size = {"train": settings.train, "val": settings.val, "test": settings.test}
    return build(
        seed,
        **size,
        dim=settings.features,
        visibility=settings.visibility,
        nuisance=settings.nuisance,
        follow_up=FOLLOW_UP if settings.early_end else None,
    )


def _class_of(variant: Variant) -> type[SubspaceModule]:
    return SubspaceTeacher if variant.kind == TEACHER else SubspaceStudent


def make_model(variant: Variant, world: World, settings: Settings, teacher: Path | None) -> SubspaceModule:
    """The variant's model with a task fitted to the training patients; its weights follow from torch's seed."""
    arguments: dict[str, Any] = {
        "n_features": settings.features,
        "genes": world.genes if variant.rna else {},
        "programs": world.programs if variant.rna else None,
        "task": world.task("survival", **variant.task),
        "width": settings.width,
    }
    if teacher is not None:
        arguments["teacher"] = str(teacher)
    return _class_of(variant)(**(arguments | variant.arguments))


def fit_and_test(name: str, seed: int, settings: Settings, work: Path) -> dict[str, Any]:
    """Fit a variant on a seed, test it once, and keep its predictions for the test patients.

    Returns:
        Content of the file.
    """
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    variant, world = BY_NAME[name], _world(seed, settings)
    teacher = None if variant.teacher is None else teacher_path(work, variant.teacher, seed, settings)
    began = time.perf_counter()
    seed_everything(seed, verbose=False)
    model = make_model(variant, world, settings, teacher)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".fit_") as folder:
        best, epochs = _fit(model, variant, world, seed, settings, Path(folder))
        kept = torch.load(best, weights_only=True)
        if name in TEACHING:
            _keep(best, teacher_path(work, name, seed, settings))
    model.load_state_dict(kept["state_dict"])
    seconds = time.perf_counter() - began
    description = describe(variant, settings)
    result = {
        "variant": name,
        "seed": seed,
        "digest": digest(description),
        "description": description,
        "code": CODE,
        "seconds": round(seconds, 1),
        "epochs": epochs,
        "best_epoch": int(kept["epoch"]) + 1,
    } | _measure(model, variant, world, seed, settings)
    write_json(result_path(work, name, seed), result)
    return result


def _fit(
    model: SubspaceModule, variant: Variant, world: World, seed: int, settings: Settings, folder: Path
) -> tuple[Path, int]:
    """Return the checkpoint of the best epoch and the number of epochs."""
    keep = ModelCheckpoint(dirpath=folder, filename="best", monitor="val/loss", enable_version_counter=False)
    callbacks = [keep, EarlyStopping("val/loss", patience=settings.patience)]
    if variant.coordination is not None:
        callbacks.append(GradientCoordination(**variant.coordination))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=settings.epochs,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        default_root_dir=folder,
        **quiet,
    )
    train, val = (
        world.loader(part, model.task, settings.batch_size, seed, variant.shuffled_rna) for part in ("train", "val")
    )
    trainer.fit(model, train, val)
    return Path(keep.best_model_path), trainer.current_epoch


def _keep(checkpoint: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(checkpoint, place)


@torch.inference_mode()
def _measure(model: SubspaceModule, variant: Variant, world: World, seed: int, settings: Settings) -> dict[str, Any]:
    """Risks of the test patients, their concordance, and the partial R² of the factors from the embeddings."""
    model.eval()
    risks, embeddings = [], {s: [] for s in SUBSPACES}
    for batch in world.loader("test", model.task, 32, seed, variant.shuffled_rna):
        output = model(batch)
        risks.append(model.task.predictions(output.logits)["risk"])
        for s in SUBSPACES:
            embeddings[s].append(torch.cat([output.embeddings[m, s] for m in model.magnifications], 1))
    risk, rows = torch.cat(risks).numpy(), world.parts["test"]
    if not np.isfinite(risk).all():
        return {"finite": False, "c_index": None, "risk": None, "partial_r2": None, "partial_r2_shown": None}
    by_subspace = {s: torch.cat(parts).double().numpy() for s, parts in embeddings.items()}
    return {
        "finite": True,
        "c_index": concordance_index(*(world.outcome[name][rows] for name in ("time", "event")), risk),
        "risk": risk.tolist(),
        "partial_r2": partial_r2(by_subspace, {s: values[rows] for s, values in world.factors.items()}),
        "partial_r2_shown": partial_r2(by_subspace, {s: values[rows] for s, values in world.visible_factors.items()}),
    }


def write_truth(seed: int, settings: Settings, work: Path) -> dict[str, Any]:
    """Outcomes, true risks and upper limits of a seed's test patients, read from the file if it has these settings."""
    path = work / f"seed_{seed}" / "truth.json"
    models_own = ("width", "epochs", "patience", "batch_size")
    made_by = digest({name: value for name, value in asdict(settings).items() if name not in models_own})
    if path.is_file() and (kept := json.loads(path.read_text()))["digest"] == made_by:
        return kept
    world = _world(seed, settings)
    rows = world.parts["test"]
    truth = {"digest": made_by, **{name: values[rows].tolist() for name, values in world.outcome.items()}}
    truth |= {"oracle": world.risk[rows].tolist(), "slide_oracle": world.shown_risk[rows].tolist()}
    truth["ceilings"] = ceilings(world)
    write_json(path, truth)
    return truth


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, allow_nan=False) + "\n")
    os.replace(partial, path)

"""The public names of `dmml`, their arguments, and the time that importing them takes."""

import dataclasses
import inspect
import subprocess
import sys
import time
from typing import get_type_hints

import pytest

PUBLIC = (
    "Bag", "Batch", "FeatureStore", "MultimodalDataModule", "SubspaceTeacher", "SubspaceStudent", "GradientCoordination",
    "SlideFeatures", "Survival", "Classification",
)  # fmt: skip
FUNCTIONS = {
    "dmml.functional.survival": {
        "discrete_time_nll": ["logits", "interval", "event", "alpha"],
        "survival_curve": ["logits"],
        "risk_score": ["logits"],
        "interval_edges": ["time", "event", "n_intervals"],
        "time_quantiles": ["time", "n_intervals"],
        "concordance_index": ["time", "event", "risk"],
    },
    "dmml.functional.consistency": {
        "expression_consistency": ["predicted_10", "predicted_20", "measured", "has_expression"],
        "attention_consistency": ["attention_10", "attention_20", "parent", "mask_10"],
        "attention_agreement_variance": ["attention_10", "attention_20"],
        "batch_similarity_variance": ["a", "b"],
    },
    "dmml.functional.distillation": {
        "softened_kl": ["student_logits", "teacher_logits", "temperature"],
        "softened_bernoulli_kl": ["student_logits", "teacher_logits", "temperature"],
    },
    "dmml.functional.coordination": {"coordinate": ["grad_tumor", "grad_tme", "confidence_tumor", "confidence_tme", "rule"]},
    "dmml.functional.aggregation": {
        "dpc_knn": ["tokens", "mask", "n_clusters", "k"],
        "merge_tokens": ["tokens", "weight", "assignment", "n_clusters"],
    },
    "dmml.evaluation.metrics": {
        "concordance_index": ["time", "event", "risk"],
        "concordance_ipcw": [], "integrated_brier": [], "auc_at": [],
    },
    "dmml.evaluation.bootstrap": {"paired_difference": ["metric", "a", "b"]},
}  # fmt: skip
HEAVY = {"torch", "lightning", "timm", "zarr", "matplotlib", "pandas", "numpy", "lifelines"}


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_importing_dmml_imports_nothing_heavy():
    loaded = python("import dmml, sys; print(dmml.__version__, *{name.split('.')[0] for name in sys.modules})").split()
    assert not HEAVY & set(loaded)


def test_the_help_is_shown_quickly_and_imports_nothing_heavy():
    code = "import sys; from dmml.__main__ import main; code = main(['--help']); print(code, *{n.split('.')[0] for n in sys.modules})"
    *text, last = python(code).splitlines()
    assert last.split()[0] == "0"
    assert not HEAVY & set(last.split())
    assert {"fit", "simulate", "extract"} <= {word for line in text for word in line.split()}
    seconds = []
    for _ in range(3):  # the quickest of three: the machine may have other work
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dmml", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


def test_dmml_exports_its_public_names_and_no_others():
    import dmml

    for name in PUBLIC:
        assert name in dmml.__all__
        assert getattr(dmml, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = dmml.nothing_of_the_kind


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in FUNCTIONS.items() for name in names])
def test_functions_have_the_documented_names_and_arguments(module, name):
    from importlib import import_module

    function, wanted = getattr(import_module(module), name), FUNCTIONS[module][name]
    assert list(inspect.signature(function).parameters)[: len(wanted)] == wanted
    assert inspect.getdoc(function)


def test_models_and_tasks_have_the_documented_arguments():
    import dmml

    for kind, wanted in {
        dmml.SubspaceTeacher: {
            "n_features": None,
            "genes": None,
            "task": None,
            "width": 128,
            "magnifications": (10, 20),
            "programs": None,
        },
        dmml.SubspaceStudent: {
            "n_features": None,
            "task": None,
            "width": 128,
            "magnifications": (10, 20),
            "teacher": None,
            "programs": None,
        },
        dmml.Survival: {"n_intervals": 4, "edges": None, "end": None},
        dmml.Classification: {"classes": None},
        dmml.GradientCoordination: {"scope": "classifier", "rule": "project", "confidence": "likelihood"},
    }.items():
        parameters = inspect.signature(kind).parameters
        assert {name: parameters[name].default for name in wanted} == wanted
        assert all(p.default is not inspect.Parameter.empty for p in parameters.values()), "each with a default"
        text = "".join(inspect.getdoc(each) or "" for each in kind.__mro__)
        assert [name for name in parameters if f"{name}:" not in text] == [], (
            f"undocumented arguments of {kind.__name__}"
        )


def test_functions_have_the_documented_defaults():
    from dmml.functional.aggregation import dpc_knn
    from dmml.functional.coordination import coordinate
    from dmml.functional.survival import discrete_time_nll

    assert inspect.signature(dpc_knn).parameters["k"].default == 5
    assert inspect.signature(coordinate).parameters["rule"].default == "project"
    assert inspect.signature(discrete_time_nll).parameters["alpha"].default == 0.0


def test_batches_have_the_documented_fields():
    from torch import Tensor

    import dmml

    needed = [field.name for field in dataclasses.fields(dmml.Bag) if field.default is dataclasses.MISSING]
    assert needed == ["features", "position", "mask", "slide"]
    hints = get_type_hints(dmml.Batch)
    assert list(hints) == ["patient_id", "bags", "parent", "expression", "has_expression", "target"]
    assert hints["parent"] is Tensor

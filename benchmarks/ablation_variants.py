"""Variants of the ablation: the defaults, each contribution removed alone, and alternatives to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dmml.experiment.crossval.fit import TASK_LOSS_ONLY
from dmml.nn.fusion import GatedPoolFusion
from dmml.nn.released_code.expression import ReleasedExpressionEncoder
from dmml.nn.released_code.fusion import ReleasedFusion

TEACHER, STUDENT, UNDISTILLED = "teacher", "student", "student-undistilled"
CONTROL_TEACHER = "teacher-shuffled-rna"

REMOVED, OTHER, INPUT, CONTROL = "removed", "other form", "input", "control"
"""Kinds of variants: one contribution removed; another form of it; other input data; a control"""


@dataclass(frozen=True)
class Variant:
    """One model of the ablation, described by its differences from the default of its kind."""

    name: str
    change: str
    """The difference, as the table names it"""
    sort: str = ""
    """"" for a default, else one of `REMOVED`, `OTHER`, `INPUT`, `CONTROL`"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the model's class"""
    task: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Survival`"""
    coordination: dict[str, str] | None = field(default_factory=dict)
    """Arguments of `GradientCoordination`; None = without the callback"""
    teacher: str | None = None
    """Name of the teacher that a student learns from"""
    rna: bool = True
    """Whether the model gets the genes; a student uses them for its programs alone"""
    shuffled_rna: bool = False
    """Whether RNA is permuted among the patients of each part, in training, validation and testing"""

    @property
    def kind(self) -> str:
        """`TEACHER` or `STUDENT`."""
        return self.name.split("-", 1)[0]

    @property
    def choice(self) -> bool:
        """Whether it is a setting that could be the default, and to which the default is compared."""
        return self.sort in (REMOVED, OTHER)


def _teacher(suffix: str, change: str, sort: str, **fields: Any) -> Variant:
    return Variant(f"{TEACHER}-{suffix}", change, sort, **fields)


def _student(suffix: str, change: str, sort: str, **fields: Any) -> Variant:
    return Variant(f"{STUDENT}-{suffix}", change, sort, **({"teacher": TEACHER} | fields))


VARIANTS: tuple[Variant, ...] = (
    Variant(TEACHER, "the default"),
    _teacher("no-coordination", "no gradient coordination", REMOVED, coordination=None),
    _teacher("no-consistency", "no inter-magnification consistency", REMOVED, arguments={"consistency_weight": 0.0}),
    _teacher(
        "no-programs",
        "no predicted programs, hence no consistency of them",
        REMOVED,
        arguments={"program_weight": 0.0, "consistency_weight": 0.0},
    ),
    _teacher("no-decorrelation", "no decorrelation", REMOVED, arguments={"decorrelation_weight": 0.0}),
    _teacher("shared-scope", "coordination where both read tokens", OTHER, coordination={"scope": "shared"}),
    _teacher("reflect-rule", "coordination by the released rule", OTHER, coordination={"rule": "reflect"}),
    _teacher(
        "probability-confidence",
        "coordination by the paper's confidence",
        OTHER,
        coordination={"confidence": "probability"},
    ),
    _teacher("gated-pool", "`GatedPoolFusion`", OTHER, arguments={"fusion": GatedPoolFusion}),
    _teacher("released-fusion", "`ReleasedFusion`", OTHER, arguments={"fusion": ReleasedFusion}),
    _teacher(
        "released-expression",
        "`ReleasedExpressionEncoder`",
        OTHER,
        arguments={"expression_encoder": ReleasedExpressionEncoder},
    ),
    _teacher("max-confidence", "the released code's combination", OTHER, task={"combination": "max_confidence"}),
    _teacher("attention-consistency", "consistency of attention", OTHER, arguments={"consistency": "attention"}),
    _teacher("dev-consistency", "the paper's consistency", OTHER, arguments={"consistency": "dev"}),
    _teacher(
        "released-consistency", "the released code's consistency", OTHER, arguments={"consistency": "released_dev"}
    ),
    _teacher("slides-only", "no RNA", INPUT, rna=False),
    _teacher("rna-only", "no slides", INPUT, arguments={"n_features": 0}),
    Variant(CONTROL_TEACHER, "RNA shuffled between patients", CONTROL, shuffled_rna=True),
    Variant(STUDENT, "the default", teacher=TEACHER),
    Variant(UNDISTILLED, "the same network, task loss alone", REMOVED, arguments=TASK_LOSS_ONLY),
    Variant(
        "student-no-genes", "task loss alone, tissue enters in 8 dimensions", INPUT, arguments=TASK_LOSS_ONLY, rna=False
    ),
    _student("no-teacher", "no teacher, programs from the RNA", REMOVED, teacher=None),
    _student(
        "shuffled-teacher",
        "RNA shuffled between patients, its teacher's too",
        CONTROL,
        teacher=CONTROL_TEACHER,
        shuffled_rna=True,
    ),
    _student("no-predictions", "predictions not distilled", REMOVED, arguments={"prediction_weight": 0.0}),
    _student("no-features", "features not distilled", REMOVED, arguments={"feature_weight": 0.0}),
    _student("no-programs", "programs not distilled", REMOVED, arguments={"teacher_program_weight": 0.0}),
    _student("no-aggregation", "no token aggregation", REMOVED, arguments={"n_merged": None}),
    _student("one-merged", "K = 1, the paper's", OTHER, arguments={"n_merged": 1}),
    _student("no-consistency", "no inter-magnification consistency", REMOVED, arguments={"consistency_weight": 0.0}),
    _student(
        "no-anchor",
        "programs neither measured nor distilled",
        REMOVED,
        arguments={"program_weight": 0.0, "teacher_program_weight": 0.0},
    ),
    _student("no-coordination", "no gradient coordination", REMOVED, coordination=None),
    _student("no-decorrelation", "no decorrelation", REMOVED, arguments={"decorrelation_weight": 0.0}),
    _student("max-confidence", "the released code's combination", OTHER, task={"combination": "max_confidence"}),
)
BY_NAME = {variant.name: variant for variant in VARIANTS}
QUICK = (TEACHER, "teacher-no-coordination", STUDENT, UNDISTILLED)
TEACHING = {variant.teacher for variant in VARIANTS} - {None}
"""Teachers whose checkpoints students need"""


def closure(names: Iterable[str]) -> list[Variant]:
    """The named variants with their references and teachers, in the order of the table.

    Raises:
        KeyError: A variant does not exist.
    """
    wanted = {name: BY_NAME[name] for name in names}
    for variant in list(wanted.values()):
        needed = {TEACHER} if variant.kind == TEACHER else {STUDENT, TEACHER, UNDISTILLED, variant.teacher}
        wanted |= {name: BY_NAME[name] for name in needed - {None}}
    return [variant for variant in VARIANTS if variant.name in wanted]

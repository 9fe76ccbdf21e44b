"""The parts that the ablation removes or replaces alone, and the scenes where each could matter, named in advance.

Only a scene that was named for a part can show that it contributes. The parts of dmml, of the paper's model, and the
released code's forms of the latter are dictionaries {name: variant}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dmml.experiment.crossval.fit import TASK_LOSS_ONLY

Scene = tuple[str, int]
"""Name of a world or of another scene of `worlds_data`, and number of training and inner validation patients"""
SHARED, TISSUE, OPPOSED = ("shared", 200), ("tissue_only", 200), ("opposed", 200)
ONE, RARE, INTERACTION = ("one_magnification", 200), ("rare_tissue", 200), ("token_interaction", 200)
FEW, HIDDEN, MANY = ("shared", 100), ("few_outcomes", 200), ("many_tokens", 100)
SCENES = (SHARED, FEW, HIDDEN, OPPOSED, TISSUE, ONE, RARE, INTERACTION, MANY)
"""All scenes in the order of the page"""

TEACHER, STUDENT = "teacher", "student"
REMOVED, REPLACED, CONTROL = "removed", "replaced", "control"
"""Kinds of variants: a part removed; another form of a part; the same network from another random start"""


@dataclass(frozen=True)
class Variant:
    """A network that differs from the reference of its family in one part."""

    part: str
    """The part, as the page names it"""
    kind: str
    """`REMOVED`, `REPLACED` or `CONTROL`"""
    of: str
    """`TEACHER` or `STUDENT`"""
    named: tuple[Scene, ...] = ()
    """Scenes where the part could matter, named in advance"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the model that differ from the reference's"""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of `Network` that differ from the reference's"""
    taught_by: str | None = None
    """Name of the variant that teaches a student in place of the reference"""


def part_class(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments} if arguments else {"class_path": path}


# ---- dmml ----------------------------------------------------------------------------------------------------------

ALL_PARTS = {
    TEACHER: {
        "fusion": part_class("dmml.nn.fusion.DeformableFusion"),
        "consistency_weight": 0.1,
        "decorrelation_weight": 0.05,
    },
    STUDENT: {
        "consistency_weight": 0.1,
        "decorrelation_weight": 0.05,
        "teacher_program_weight": 0.3,
    },
}
"""Arguments that switch on those parts of dmml which are no defaults; gradient coordination is another"""
_NO_WEIGHTS = dict.fromkeys(("consistency_weight", "decorrelation_weight"), 0.0)
_START = {"start": 1000}
_NO_DISTILLATION = {"teacher": None}
DMML_PARTS = {
    "again": Variant("another random start", CONTROL, TEACHER, (OPPOSED, RARE), changes=_START),
    "no_coordination": Variant(
        "gradient coordination", REMOVED, TEACHER, (SHARED, OPPOSED), changes={"coordination": None}
    ),
    "no_consistency": Variant(
        "consistency of programs between magnifications", REMOVED, TEACHER, (SHARED, ONE), {"consistency_weight": 0.0}
    ),
    "no_programs": Variant(
        "programs predicted from tissue, with their consistency",
        REMOVED,
        TEACHER,
        (SHARED, FEW),
        {"program_weight": 0.0, "consistency_weight": 0.0},
    ),
    "no_decorrelation": Variant(
        "decorrelation of the subspaces", REMOVED, TEACHER, (SHARED, OPPOSED), {"decorrelation_weight": 0.0}
    ),
    "no_tissue_specific": Variant(
        "the tissue-specific part", REMOVED, TEACHER, (TISSUE, RARE, ONE), {"tissue_specific": False}
    ),
    "gated_pool": Variant(
        "deformable fusion, not `GatedPoolFusion`",
        REPLACED,
        TEACHER,
        (SHARED, RARE, INTERACTION),
        {"fusion": part_class("dmml.nn.fusion.GatedPoolFusion")},
    ),
    "defaults": Variant(
        "all of these parts, not dmml's defaults alone",
        REPLACED,
        TEACHER,
        (SHARED, FEW, OPPOSED, TISSUE, ONE, RARE, INTERACTION),
        {"fusion": part_class("dmml.nn.fusion.GatedPoolFusion"), **_NO_WEIGHTS},
        {"coordination": None},
    ),
    "student_again": Variant("another random start", CONTROL, STUDENT, (HIDDEN, RARE), changes=_START),
    "student_undistilled": Variant(
        "the teacher and all losses but the task's",
        REMOVED,
        STUDENT,
        (SHARED, FEW, HIDDEN),
        TASK_LOSS_ONLY,
        _NO_DISTILLATION,
    ),
    "student_no_teacher": Variant(
        "the teacher; programs are still learned from RNA",
        REMOVED,
        STUDENT,
        (SHARED, FEW, HIDDEN),
        changes=_NO_DISTILLATION,
    ),
    "student_no_predictions": Variant(
        "distilled predictions", REMOVED, STUDENT, (SHARED, FEW, HIDDEN), {"prediction_weight": 0.0}
    ),
    "student_no_features": Variant(
        "distilled features", REMOVED, STUDENT, (SHARED, FEW, HIDDEN), {"feature_weight": 0.0}
    ),
    "student_no_teacher_programs": Variant(
        "distilled programs", REMOVED, STUDENT, (SHARED, FEW, HIDDEN), {"teacher_program_weight": 0.0}
    ),
    "student_no_decorrelation": Variant(
        "decorrelation of the subspaces", REMOVED, STUDENT, (SHARED, FEW), {"decorrelation_weight": 0.0}
    ),
    # Not with many tokens: attention among all of them takes minutes an epoch, which is what aggregation is for.
    "student_no_aggregation": Variant("token aggregation", REMOVED, STUDENT, (RARE, INTERACTION), {"n_merged": None}),
    "student_one_merged": Variant("K = 8, not 1", REPLACED, STUDENT, (RARE, MANY), {"n_merged": 1}),
    "student_two_merged": Variant("K = 8, not 2", REPLACED, STUDENT, (RARE, MANY), {"n_merged": 2}),
    "student_tissue_attention": Variant(
        "tokens as they are, not with H-to-H attention",
        REPLACED,
        STUDENT,
        (RARE, INTERACTION),
        {"aggregator": part_class("dmml.nn.aggregator.TokenAggregator", tissue_attention=True)},
    ),
    "student_prototypes": Variant(
        "`TokenAggregator`, not `PrototypeAggregator`",
        REPLACED,
        STUDENT,
        (RARE, INTERACTION, MANY),
        {"aggregator": part_class("dmml.nn.paper.aggregator.PrototypeAggregator"), "n_merged": 2},
    ),
    "student_defaults": Variant(
        "all of these parts, not dmml's defaults alone, in teacher and student",
        REPLACED,
        STUDENT,
        (SHARED, FEW, HIDDEN, RARE, INTERACTION),
        {**_NO_WEIGHTS, "teacher_program_weight": 0.0},
        {"coordination": None},
        taught_by="defaults",
    ),
}

# ---- the paper's model -----------------------------------------------------------------------------------------------

_COORDINATION = {"confidence": "probability"}
PAPER_COORDINATION = {"coordination": _COORDINATION}
RASTER = {"cells": 12, "anchors": 6, "reach": 2.0}
"""Half of the default cells and anchors along each side, with the same reach on the slide: these slides have 5 to 8 tiles
along a side at 10x, and a step takes a third of the time"""
PAPER_PARTS = {
    "again": Variant("another random start", CONTROL, TEACHER, (OPPOSED, RARE), changes=_START),
    "no_cgc": Variant(
        "gradient coordination (CGC)",
        REMOVED,
        TEACHER,
        (SHARED, OPPOSED),
        changes={"coordination": None},
    ),
    "no_igc": Variant(
        "consistency of attention (IGC, by DEV)",
        REMOVED,
        TEACHER,
        (SHARED, ONE),
        {"consistency_weight": 0.0},
    ),
    "no_selection": Variant(
        "gene selection layer",
        REMOVED,
        TEACHER,
        (SHARED, TISSUE, OPPOSED),
        {"fusion": part_class("dmml.nn.paper.fusion.PaperFusion", selection=False, **RASTER)},
    ),
    "one_gene_token": Variant(
        "a gene token per program, not one vector",
        REPLACED,
        TEACHER,
        (SHARED, TISSUE),
        {"expression_encoder": part_class("dmml.nn.expression.ExpressionEncoder")},
    ),
    "one_gene_group": Variant(
        "two groups of genes, not one for both subspaces",
        REPLACED,
        TEACHER,
        (SHARED, OPPOSED),
        changes={"one_gene_group": True},
    ),
    "only_10x": Variant("20x beside 10x", REMOVED, TEACHER, (SHARED, ONE), {"magnifications": [10]}),
    "only_20x": Variant("10x beside 20x", REMOVED, TEACHER, (SHARED, ONE), {"magnifications": [20]}),
    "student_again": Variant("another random start", CONTROL, STUDENT, (HIDDEN, RARE), changes=_START),
    "student_no_attention": Variant(
        "H-to-H attention before clustering",
        REMOVED,
        STUDENT,
        (SHARED, RARE, INTERACTION),
        {"aggregator": part_class("dmml.nn.paper.aggregator.PrototypeAggregator", tissue_attention=False)},
    ),
    "student_no_clusters": Variant(
        "two clusters, not a pool of all tokens per subspace",
        REMOVED,
        STUDENT,
        (RARE, OPPOSED, MANY),
        {"n_merged": None},
    ),
    "student_no_features": Variant(
        "distilled features (MSE)", REMOVED, STUDENT, (SHARED, FEW, HIDDEN), {"feature_weight": 0.0}
    ),
    "student_no_predictions": Variant(
        "distilled predictions (KL)", REMOVED, STUDENT, (SHARED, FEW, HIDDEN), {"prediction_weight": 0.0}
    ),
    "student_undistilled": Variant(
        "distillation (SKD)", REMOVED, STUDENT, (SHARED, FEW, HIDDEN, TISSUE), {}, _NO_DISTILLATION
    ),
}
RELEASED_PARTS = {
    "reflect": Variant(
        "the gradient projected once, not mirrored",
        REPLACED,
        TEACHER,
        (SHARED, OPPOSED),
        changes={"coordination": _COORDINATION | {"rule": "reflect"}},
    ),
    "dev": Variant(
        "DEV as printed, not the code's form with weight 10⁴",
        REPLACED,
        TEACHER,
        (SHARED, ONE),
        {"consistency": "released_dev", "consistency_weight": 1e4},
    ),
    "expression": Variant(
        "gene tokens of an SNN, not one vector with a final ReLU",
        REPLACED,
        TEACHER,
        (SHARED, FEW),
        {"expression_encoder": part_class("dmml.nn.released_code.expression.ReleasedExpressionEncoder")},
    ),
    "fusion": Variant(
        "`PaperFusion`, not `ReleasedFusion` on one vector",
        REPLACED,
        TEACHER,
        (SHARED, RARE),
        {
            "fusion": part_class("dmml.nn.released_code.fusion.ReleasedFusion", **RASTER),
            "expression_encoder": part_class("dmml.nn.expression.ExpressionEncoder"),
            "consistency_weight": 0.0,
        },
    ),
    "max_confidence": Variant(
        "gating by confidence, not the surer magnification",
        REPLACED,
        TEACHER,
        (SHARED, ONE),
        {"task": part_class("dmml.tasks.Survival", combination="max_confidence", edges_from="all")},
    ),
    "student_weights": Variant(
        "unweighted distillation, not with weights of 0.01",
        REPLACED,
        STUDENT,
        (SHARED, FEW, HIDDEN),
        {"feature_weight": 0.01, "prediction_weight": 0.01},
    ),
}

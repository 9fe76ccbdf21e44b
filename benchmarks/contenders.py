"""The networks that are measured, by name, with the defaults that a user gets."""

from __future__ import annotations

from functools import partial

from fitted_backbone import give_backbone, remember
from steps import Step, distilled, network_step, subspace_step
from token_batches import EDGES, END, GENES
from torch import nn

from dmml.nn.aggregator import TokenAggregator
from dmml.nn.baselines import MCAT, GatedABMIL, TransMIL
from dmml.nn.fusion import DeformableFusion
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.nn.paper.expression import ProgramTokenEncoder
from dmml.nn.paper.fusion import PaperFusion
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch

YARDSTICK = "gated ABMIL"
TAUGHT = "student under a teacher"
TAUGHT_ANEW = "student under a teacher that answers at every step"
ALL_PARTS = "teacher with all its parts"
PAPER_FUSION = "teacher with the paper's fusion"
ATTENDING = "student with tissue attention"
PROTOTYPES = "student with prototypes"
FORMS = (ALL_PARTS, PAPER_FUSION, ATTENDING, PROTOTYPES)
"""Parts that a config adds by name"""
COORDINATED = (ALL_PARTS, PAPER_FUSION)
"""Networks whose step includes gradient coordination"""
RIVALS = ("MCAT-like", "TransMIL-like")
N_FEATURES = 1024
GROUP_SIZES = (59, 73, 72, 72, 72, 72)
"""Genes of MCAT's six groups; they sum to the 59 tumor and 361 TME genes of `token_batches`"""


def task() -> Survival:
    """Survival in four intervals, fitted."""
    return Survival(edges=EDGES, end=END)


def build(name: str) -> nn.Module:
    """Build a network by its name: width 128, 10x and 20x, all other defaults, and a fitted backbone."""
    arguments = {"n_features": N_FEATURES, "genes": GENES, "task": task()}
    if name == "teacher":
        return _with_backbone(SubspaceTeacher(**arguments))
    if name == ALL_PARTS:
        parts = {"fusion": DeformableFusion, "consistency_weight": 0.1, "decorrelation_weight": 0.05}
        return _with_backbone(SubspaceTeacher(**arguments, **parts))
    if name == PAPER_FUSION:
        parts = {"fusion": PaperFusion, "expression_encoder": ProgramTokenEncoder}
        parts |= {"consistency": "dev", "consistency_weight": 1.0}
        return _with_backbone(SubspaceTeacher(**arguments, **parts))
    if name == "student":
        return _with_backbone(SubspaceStudent(**arguments))
    if name == "student without aggregation":
        return _with_backbone(SubspaceStudent(**arguments, n_merged=None))
    if name == ATTENDING:
        return _with_backbone(SubspaceStudent(**arguments, aggregator=partial(TokenAggregator, tissue_attention=True)))
    if name == PROTOTYPES:
        return _with_backbone(SubspaceStudent(**arguments, aggregator=PrototypeAggregator, n_merged=2))
    if name in (TAUGHT, TAUGHT_ANEW):
        teacher = _with_backbone(SubspaceTeacher(**arguments))
        student = distilled(lambda path: SubspaceStudent(n_features=N_FEATURES, teacher=path), teacher)
        student.backbone.copy_without_rna(teacher.backbone)
        return student
    if name == "MCAT-like":
        n_genes = {s: len(genes) for s, genes in GENES.items()}
        return MCAT(N_FEATURES, n_genes, task().n_outputs, group_sizes=GROUP_SIZES)
    networks = {YARDSTICK: GatedABMIL, "TransMIL-like": TransMIL}
    return networks[name](N_FEATURES, task().n_outputs)


def _with_backbone(model: SubspaceModule) -> SubspaceModule:
    give_backbone(model, N_FEATURES)
    return model


def step_of(network: nn.Module, taught: Batch | None = None, coordinated: bool = False) -> Step:
    """The network's optimisation step; a backbone's predictions are cross-fitted ones from memory, as in a fit.

    Args:
        network: A network that `build` returned.
        taught: Patients whom a student's teacher predicts once beforehand, as in a fit.
        coordinated: Whether the step includes gradient coordination.
    """
    if not isinstance(network, SubspaceModule):
        return network_step(network, task())
    remember(network, N_FEATURES)
    for teacher in getattr(network, "_teacher", ()):
        teacher.share_cross_fitted(network)
    if taught is not None:
        network.cache_teacher_outputs([taught])
    return subspace_step(network, coordinated)

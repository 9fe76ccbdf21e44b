"""The networks that are measured, each by its name, with the defaults that a user gets."""

from __future__ import annotations

from rivals import McatLike, TransMilLike
from steps import Step, distilled, network_step, subspace_step
from token_batches import EDGES, END, GENES
from torch import nn

from dmml.nn.baselines import GatedABMIL
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch

YARDSTICK = "gated ABMIL"
TAUGHT = "student under a teacher"
TAUGHT_ANEW = "student under a teacher that answers at every step"
RIVALS = ("MCAT-like", "TransMIL-like")
N_FEATURES = 1024


def task() -> Survival:
    """Survival in four intervals, fitted."""
    return Survival(edges=EDGES, end=END)


def build(name: str) -> nn.Module:
    """A network by its name: width 128, 10x and 20x, everything that is on by default switched on."""
    own = {"n_features": N_FEATURES, "genes": GENES, "task": task()}
    if name == "teacher":
        return SubspaceTeacher(**own)
    if name == "student":
        return SubspaceStudent(**own)
    if name == "student without aggregation":
        return SubspaceStudent(**own, n_merged=None)
    if name in (TAUGHT, TAUGHT_ANEW):
        return distilled(
            lambda teacher: SubspaceStudent(n_features=N_FEATURES, teacher=teacher), SubspaceTeacher(**own)
        )
    networks = {YARDSTICK: GatedABMIL, "MCAT-like": McatLike, "TransMIL-like": TransMilLike}
    return networks[name](N_FEATURES, task().n_outputs)


def step_of(network: nn.Module, remember: Batch | None = None) -> Step:
    """The network's optimisation step.

    Args:
        network: From `build`.
        remember: Patients for whom a student's teacher answers beforehand, once, as it does in a fit.
    """
    if remember is not None:
        network.remember_teacher([remember])
    return subspace_step(network) if isinstance(network, SubspaceModule) else network_step(network, task())

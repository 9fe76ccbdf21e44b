"""Small models for the batches of `batches.py`, with all parts of dmml, also those that are no defaults."""

from batches import DIM, GENES

from dmml.nn.fusion import DeformableFusion
from dmml.tasks import Classification, Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

PROGRAMS = {
    "tumor": {"A": ["T0", "T1"], "B": ["T2", "T3", "T4", "T5"]},
    "tme": {"C": ["E0"], "D": ["E1", "E4"], "E": ["E2"]},
}
WEIGHTS = {"consistency_weight": 0.1, "decorrelation_weight": 0.05}
ALL_PARTS = {
    "teacher": {"fusion": DeformableFusion, **WEIGHTS},
    "student": {"teacher_program_weight": 0.3, **WEIGHTS},
}


def task_of(kind):
    if kind == "classification":
        return Classification(classes=["a", "b", "c"])
    return Survival(edges=[300.0, 700, 1300], end=2000.0)


def build(name, kind="survival", **changes):
    model = {"teacher": SubspaceTeacher, "student": SubspaceStudent}[name]
    arguments = {"n_features": DIM, "genes": GENES, "task": task_of(kind), "width": 16} | ALL_PARTS[name]
    return model(**arguments | changes).eval()

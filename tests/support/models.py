"""Small models for the batches of `batches.py`."""

from batches import DIM, GENES

from dmml.tasks import Classification, Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

PROGRAMS = {
    "tumor": {"A": ["T0", "T1"], "B": ["T2", "T3", "T4", "T5"]},
    "tme": {"C": ["E0"], "D": ["E1", "E4"], "E": ["E2"]},
}


def task_of(kind):
    if kind == "classification":
        return Classification(classes=["a", "b", "c"])
    return Survival(edges=[300.0, 700, 1300], end=2000.0)


def build(name, kind="survival", **changes):
    model = {"teacher": SubspaceTeacher, "student": SubspaceStudent}[name]
    return model(**{"n_features": DIM, "genes": GENES, "task": task_of(kind), "width": 16} | changes).eval()

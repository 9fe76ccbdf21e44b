"""Writes `gene_correlations.csv` of a test: how the genes of the model go along with its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dmml.atomic_files import atomic_write
from dmml.callbacks.patient_rows import PatientInputs
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.genes.correlations import FILE, gene_correlations
from dmml.experiment.training_reference import without_imputed
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule


def write_gene_correlations(
    evaluation: Evaluation, inputs: PatientInputs, model: SubspaceModule, data: MultimodalDataModule
) -> None:
    """Write the correlation of each gene with the prediction, unless the cohort has no RNA.

    The expression is standardised by the model's own statistics and clipped as the model reads it, also where the
    model, a student, reads none. Patients without RNA are left out, and so are values that were not measured.

    Args:
        evaluation: Evaluation of the cohort.
        inputs: Inputs of the tested patients, one row per patient.
        model: Its `fitted` names the genes of each subspace.
        data: The data module, set up for test.
    """
    path = evaluation.folder / FILE
    path.unlink(missing_ok=True)
    expression = {}
    statistics = model.fitted.get("gene_statistics") or {}
    for subspace in SUBSPACES:
        if (rows := inputs.get(subspace)) and subspace in statistics:
            patients, genes = list(rows), list(statistics[subspace]["genes"])
            values = without_imputed(np.stack(list(rows.values())).astype(float), patients, genes, data)
            expression[subspace] = patients, genes, values
    if not expression:
        return
    patient_ids = evaluation.predictions["patient_id"].astype(str).tolist()
    scores = {
        name: dict(zip(patient_ids, values.tolist(), strict=True))
        for name, values in evaluation.endpoint.scores(evaluation.predictions, evaluation.context).items()
    }
    table = gene_correlations(scores, expression)
    with atomic_write(path) as partial:
        table.to_csv(partial, index=False)

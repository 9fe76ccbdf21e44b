"""Which pictures a test gets."""

from __future__ import annotations

from dmml.evaluation.calibration import calibration_at
from dmml.evaluation.classification_plots import confusion_picture, reliability_picture, roc_picture
from dmml.evaluation.evaluate import horizons
from dmml.evaluation.plots import Picture
from dmml.evaluation.survival_curves import risk_groups
from dmml.evaluation.survival_plots import calibration_picture, forest_picture, kaplan_meier_picture
from dmml.evaluation.tested import Tested


def pictures(test: Tested) -> list[Picture]:
    """Pictures of one model on one cohort; none where no outcome is known."""
    if test.known.empty:
        return []
    if not test.survival:
        label, probability = test.labels
        return [
            confusion_picture(label, probability, test.classes),
            roc_picture(label, probability, test.classes),
            reliability_picture(label, probability),
        ]
    found = [kaplan_meier_picture(risk_groups(test.known, test.context.get("median_risk")))]
    days = horizons(test.context, test.known["time"].to_numpy(float))
    calibrations = [result for day in days if (result := calibration_at(test.known, day)) is not None]
    return found + ([calibration_picture(calibrations)] if calibrations else [])


def models_picture(tests: list[Tested]) -> Picture | None:
    """All models of a cohort by their primary metric, with the best possible where it is known."""
    rows = [(test.run, test.metrics[test.primary]) for test in tests]
    oracle = next((test.metrics["c_index_oracle"] for test in tests if "c_index_oracle" in test.metrics), None)
    if oracle:
        rows.append(("best possible", oracle))
    if sum(entry["value"] is not None for _, entry in rows) < 2:
        return None
    survival = tests[0].survival
    label = "concordance" if survival else "macro AUC"
    return forest_picture(rows, f"Models on {tests[0].cohort}", label, 0.5)

"""How reports call metrics, and how each of them is read."""

from __future__ import annotations

from dmml.evaluation.caveats import OVERLAP
from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.report.formatting import horizon_name

_HIGHER = "higher is better, 0.5 is chance"

METRIC_NAMES = {
    OVERLAP: ("Patients that the model was trained on", "among the tested patients"),
    "c_index": ("Concordance (Harrell)", _HIGHER),
    "c_index_antolini": (
        "Concordance, time-dependent (Antolini)",
        "order by the predicted survival on the day of each event; higher is better, 0.5 is chance",
    ),
    "c_index_ipcw": ("Concordance, censoring-weighted (Uno)", _HIGHER),
    "ibs": ("Integrated Brier score", "lower is better"),
    "hazard_ratio": (
        "Hazard ratio, high against low risk",
        "1 = no difference; cut at the training patients' median risk, interval and p by Cox regression",
    ),
    "auc": ("AUC, macro one-against-rest", _HIGHER),
    "accuracy": ("Accuracy", "higher is better"),
    "balanced_accuracy": (
        "Balanced accuracy",
        "the macro sensitivity: mean over classes of the share of a class's patients that are recognised; higher is better",
    ),
    "specificity_macro": (
        "Specificity, macro",
        "mean over classes of the share of all other patients that are not taken for the class; a model that always gives "
        "the same answer reaches 1 − 1 / number of classes",
    ),
    "sensitivity": ("Sensitivity for the second class", "share of its patients that are recognised; higher is better"),
    "specificity": (
        "Specificity for the second class",
        "share of the other patients that are not taken for it; higher is better",
    ),
    "f1_macro": ("F1, macro", "higher is better"),
    "kappa_quadratic": ("Kappa, quadratic", "higher is better, 0 is chance"),
    "ece": ("Expected calibration error", "lower is better; imprecise with few patients, and so is its interval"),
    "deep_share": ("Share of the deep part", "0 = the backbone alone"),
    "c_index_oracle": ("Concordance of the true risk", "the best possible value here"),
    "share_of_oracle": ("Share of the best possible", "(C − 0.5) / (best C − 0.5)"),
}
"""{metric: (display name, how to read it)}"""


def metric_name(name: str, endpoint: Endpoint | None = None) -> tuple[str, str]:
    """Display name of a metric, and how to read it. An endpoint may have its own names."""
    if endpoint is not None and name in endpoint.metric_names:
        return endpoint.metric_names[name]
    if name.startswith("auc_"):
        return f"AUC at {horizon_name(float(name.removeprefix('auc_')))}", _HIGHER
    return METRIC_NAMES.get(name, (name, ""))

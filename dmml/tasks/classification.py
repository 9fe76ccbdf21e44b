"""Classification into one of several classes, such as diagnoses, grades or subtypes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from dmml.errors import InputError
from dmml.functional.combination import masked_log_mean
from dmml.functional.distillation import categorical_divergence
from dmml.linear.likelihoods import Likelihood, MultinomialLikelihood
from dmml.tasks.base import OutcomeColumns, Task, calibrated
from dmml.tasks.classification_presentation import ClassificationPresentation
from dmml.tasks.conformal import ClassSets
from dmml.tasks.ridge.logistic_regression import LogisticRegression

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Classification(Task):
    """Classification into mutually exclusive classes.

    Args:
        classes: Names of the classes in order (grades ascending). With None, they are the sorted labels of the training
            patients. A label `2.0` matches the class `2`, because pandas writes integer columns with gaps that way.
        class_weights: Weight of each class in the loss and in the calibration of a backbone. None is 1 for each class;
            "balanced" is inversely proportional to a class's number of training patients, with mean 1 over patients.
        combination: See `Task`.
    """

    kind = "classification"
    outcome = ("label",)

    def __init__(
        self,
        classes: list[str | int | float] | None = None,
        class_weights: list[float] | str | None = None,
        combination: str = "mean",
    ):
        super().__init__(combination)
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ValueError(f'class_weights must be a list, "balanced" or None; got {class_weights!r}')
        if classes is not None and (len(classes) < 2 or len(set(map(_plain, classes))) < len(classes)):
            raise ValueError(f"classes must be at least two different names; got {classes}")
        if classes is not None and isinstance(class_weights, list) and len(class_weights) != len(classes):
            raise ValueError(f"{len(classes)} classes need {len(classes)} class_weights; got {len(class_weights)}")
        self.classes = None if classes is None else [str(name) for name in classes]
        self.class_weights = class_weights

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        """Number of classes C."""
        return len(self.class_names())

    def class_names(self) -> list[str]:
        """Return the names of the classes, which are given or fitted."""
        if self.classes is None:
            raise RuntimeError("Classification has no classes yet: give them, or call fit() with the training labels")
        return self.classes

    def fit(self, outcome: OutcomeColumns) -> None:
        """Set class names and balanced weights from the labels of the training patients, unless they were given."""
        labels = [str(label) for label in outcome["label"] if _is_known(label)]
        if self.classes is None:
            self.classes = sorted(set(labels))
            if len(self.classes) < 2:
                raise InputError(
                    f"the training patients have {len(self.classes)} class(es) ({self.classes}); at least two are needed"
                )
        if self.class_weights == "balanced":
            plain = [_plain(label) for label in labels]
            counts = [plain.count(_plain(name)) for name in self.classes]
            empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
            if empty:
                raise InputError(
                    f"no training patient has the label {', '.join(empty)}; list only classes that occur under classes"
                )
            self.class_weights = [len(labels) / (len(counts) * count) for count in counts]

    def init_args(self) -> dict[str, Any]:
        """See `Task`."""
        return {name: getattr(self, name) for name in ("classes", "class_weights", "combination")}

    def encode(self, outcome: OutcomeColumns) -> dict[str, Tensor]:
        """Convert class names to `label` and `observed`.

        Raises:
            InputError: A label is not one of the classes.
        """
        index = {_plain(name): i for i, name in enumerate(self.classes or ())}
        labels = [_plain(label) if _is_known(label) else None for label in outcome["label"]]
        unknown = sorted({str(label) for label in outcome["label"] if _is_known(label) and _plain(label) not in index})
        if unknown:
            raise InputError(
                f"label {', '.join(unknown)}: not among the model's classes ({', '.join(self.classes or ())}); "
                "leave the label of such patients empty to use them without an outcome"
            )
        return {
            "label": torch.tensor([0 if label is None else index[label] for label in labels], dtype=torch.long),
            "observed": torch.tensor([label is not None for label in labels]),
        }

    def decode(self, target: Mapping[str, Tensor]) -> dict[str, list[Any]]:
        """Convert labels back to class names."""
        labels = super().decode(target)["label"]
        return {"label": [None if label is None else self.class_names()[label] for label in labels]}

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of each patient, weighted by class."""
        weight = None
        if isinstance(self.class_weights, list):
            weight = self.on_device("class_weights", self.class_weights, logits.device, torch.float32)
        return cross_entropy(logits.float(), target["label"], weight=weight, reduction="none") * target["observed"]

    def log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """See `Task`."""
        value = log_softmax(logits.float(), 1).gather(1, target["label"].unsqueeze(1)).squeeze(1)
        return value * target["observed"]

    def divergence(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Softened divergence between softmax distributions; see `Task`."""
        return temperature**2 * categorical_divergence(student_logits, teacher_logits, temperature)

    def mean_prediction(self, logits: Tensor, log_weight: Tensor) -> Tensor:
        """Log of the mean class probabilities over magnifications."""
        share = log_weight - torch.logsumexp(log_weight, 0)
        return masked_log_mean(log_softmax(logits, -1), share.unsqueeze(-1))

    def prediction_confidence(self, logits: Tensor) -> Tensor:
        """Largest class probability."""
        return logits.softmax(-1).amax(-1)

    def linear_likelihood(self, target: Mapping[str, Tensor]) -> Likelihood:
        """Multinomial log-likelihood; the linear predictor is the logits of the classes (n, C)."""
        return MultinomialLikelihood(target["label"].numpy(), self.n_outputs)

    def regression(self) -> LogisticRegression:
        """Return multinomial logistic regression with a ridge penalty."""
        return LogisticRegression(self)

    def calibrate(self, predictor: NDArray, target: Mapping[str, Tensor]) -> tuple[NDArray, NDArray]:
        """Fit one slope for all classes and a bias for each; patients are weighted by their class."""
        weight: Tensor | float = 1.0
        if isinstance(self.class_weights, list):
            weight = torch.tensor(self.class_weights, dtype=torch.float64)[target["label"]]
        return calibrated(self, predictor, target, np.eye(self.n_outputs), weight)

    def metrics(self) -> MetricCollection:
        """Return the macro AUC over the classes that occur."""
        from torchmetrics import MetricCollection

        from dmml.tasks.macro_auc import MacroAUC

        return MetricCollection({"auc": MacroAUC(self.n_outputs)})

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the probability of each class."""
        probability = logits.double().softmax(1)
        return {f"prob_{name}": probability[:, i] for i, name in enumerate(self.classes or ())}

    def direction(self, logits: Tensor) -> Tensor:
        """Weights of the predicted class's logit minus the mean of the other logits."""
        predicted = one_hot(logits.argmax(1), self.n_outputs).to(logits.dtype)
        return (predicted * self.n_outputs - 1) / max(1, self.n_outputs - 1)

    def presentation(self) -> ClassificationPresentation:
        """Return how class probabilities are put into words."""
        return ClassificationPresentation()

    def conformal(self) -> ClassSets:
        """Return sets of classes."""
        return ClassSets(self)

    def context(self) -> dict[str, Any]:
        """See `Task`."""
        return {"task": self.kind, "classes": self.classes}


def _plain(label: object) -> str:
    """Text of a label, without the `.0` of a whole number."""
    return re.sub(r"(\d+)\.0+", r"\1", str(label)) if re.fullmatch(r"\d+\.0+", str(label)) else str(label)


def _is_known(label: object) -> bool:
    """Whether a label is known; None, NaN and blank text are not."""
    return label is not None and label == label and str(label).strip() != ""

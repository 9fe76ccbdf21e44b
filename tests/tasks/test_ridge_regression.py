"""The regression that follows from a task's likelihood agrees with the forms that survival and classes have."""

import numpy as np
import pytest
from survival_rows import survival_rows

from dmml.errors import InputError
from dmml.tasks import Classification, Survival, Task
from dmml.tasks.ridge.ridge_regression import RidgeRegression

PENALTIES = (1.0, 0.1)


def survival_outcome():
    x, time, event = survival_rows(80, 30)
    return x, {"time": time, "event": event}


def class_outcome():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    return x - x.mean(0), {"label": (x[:, :3] + rng.normal(size=(80, 3))).argmax(1)}


@pytest.mark.parametrize(
    ("task", "data"), [(Survival(3), survival_outcome), (Classification(["a", "b", "c"]), class_outcome)]
)
def test_the_general_regression_finds_the_same_optimum(task, data):
    x, outcome = data()
    task.fit({name: list(map(str, v)) if name == "label" else v.tolist() for name, v in outcome.items()})
    special, general = task.regression(), RidgeRegression(task)
    for a, b in zip(special.path(x, outcome, PENALTIES), general.path(x, outcome, PENALTIES), strict=True):
        centred = [score - score.mean(1, keepdims=True) * (score.shape[1] > 1) for score in (a.score(x), b.score(x))]
        np.testing.assert_allclose(*centred, atol=1e-3)
        assert list(a.predictions(x)) == list(b.predictions(x))
        assert special.log_likelihood(a.score(x), outcome) == pytest.approx(
            general.log_likelihood(b.score(x), outcome), rel=1e-4
        )


def test_the_general_join_gives_weight_to_the_score_that_predicts():
    x, time, event = survival_rows(200, 2)
    task = Survival(2)
    task.fit({"time": time.tolist(), "event": event.tolist()})
    noise = np.random.default_rng(1).normal(size=(200, 1))
    weight = RidgeRegression(task).join(x[:, :1], noise, {"time": time, "event": event}).weight[:, 0]
    assert weight[0] > 3 * abs(weight[1])


def test_a_task_without_a_linear_likelihood_has_no_regression():
    class Bare(Task):
        kind = "bare"

    with pytest.raises(InputError, match=r"Bare has no linear_likelihood.*--models"):
        Bare().regression()

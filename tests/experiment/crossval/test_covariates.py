"""How clinical covariates become columns of a regression: numbers, levels with and without order, unknown values."""

import numpy as np
import pandas as pd
import pytest

from dmml.errors import InputError
from dmml.experiment.crossval.covariates import CovariateCode, NominalCode, NumberCode, OrderedCode


def coded(training, table=None, **levels):
    training = pd.DataFrame(training)
    code = CovariateCode.fit(training, levels)
    return code, code.encode(training if table is None else pd.DataFrame(table))


def centred(*columns):
    x = np.column_stack([np.asarray(column, float) for column in columns])
    return x - x.mean(0)


def test_covariates_are_coded_by_training_patients_alone():
    training = {
        "age": [50.0, 60, 70, np.nan],
        "sex": ["f", "m", "f", "f"],
        "site": ["I", None, "II", "II"],
        "same": ["x"] * 4,
    }
    code, x = coded(training)
    filled = np.array([50, 60, 70, 60.0])
    standardised = (filled - filled.mean()) / filled.std()
    expected = centred(standardised, [0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0])
    np.testing.assert_allclose(x, expected)  # age, age unknown, sex m, site I, site unknown
    other = pd.DataFrame({"age": [1000.0], "sex": ["divers"], "site": ["IV"], "same": ["y"]})
    assert code.encode(other)[0, 0] > 50  # by the training patients' scale
    np.testing.assert_array_equal(code.encode(other)[0, 1:], code.encode(pd.DataFrame(training).iloc[[2]])[0, 1:])
    assert coded({"same": ["x"] * 4})[1].shape == (4, 0)


def test_training_patients_alone_decide_whether_a_covariate_is_numeric():
    numbers = pd.DataFrame({"age": [50.0, 60.0, 70.0, np.nan]}, index=list("abcd"))
    text = pd.DataFrame({"age": ["50", "60.0", "70", None]}, index=list("abcd"), dtype=object)  # words stand elsewhere
    assert CovariateCode.fit(text) == CovariateCode.fit(numbers)
    np.testing.assert_array_equal(CovariateCode.fit(text).encode(text), CovariateCode.fit(numbers).encode(numbers))
    with pytest.raises(InputError, match="'old' of patient t is not a number, but all training patients have numbers"):
        CovariateCode.fit(text).encode(pd.DataFrame({"age": ["old"]}, index=["t"]))
    mixed = text.assign(age=["50", "old", "70", None])
    assert CovariateCode.fit(mixed).codes["age"].others == ("70", "old", "unknown")


def test_an_inner_fold_keeps_the_kind_of_each_column():
    training = pd.DataFrame({"age": ["50", "60", "old", "70"], "stage": ["I", "II", "III", "I"]})
    code = CovariateCode.fit(training)
    inner = code.refit(training.iloc[[0, 1, 3]])  # words in age are all held out
    assert isinstance(inner.codes["age"], NominalCode)
    assert np.isfinite(inner.encode(training)).all()
    assert inner.codes["stage"].ranks == code.codes["stage"].ranks[:2]
    assert not code.refit(training.iloc[[0]]).codes


@pytest.mark.parametrize(
    "levels",
    [
        ["I", "II", "III", "IV"],
        ["Stage IA", "Stage IB", "Stage IIA", "Stage IV"],
        ["T1", "pT2a", "T2b", "T4"],
        ["G1", "G2", "G3", "G4"],
        ["well differentiated", "Moderately differentiated", "poorly differentiated", "Undifferentiated"],
    ],
)
def test_an_ordered_covariate_becomes_a_position_and_a_step_at_each_level(levels):
    code, x = coded({"x": levels})
    assert isinstance(code.codes["x"], OrderedCode)
    position = (np.arange(4) - 1.5) / np.arange(4).std()
    np.testing.assert_allclose(x, centred(position, [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]))
    shuffled = coded({"x": [levels[i] for i in (2, 0, 3, 1)]})[1]
    np.testing.assert_allclose(shuffled, x[[2, 0, 3, 1]])


def test_two_levels_need_no_step():
    assert coded({"grade": ["Low Grade", "High Grade"]})[1].shape == (2, 1)


def test_a_level_unseen_in_training_lies_between_its_neighbours():
    training = {"stage": ["Stage IA", "Stage IIIA", "Stage IIIB", "Stage IA"]}
    _, seen = coded(training)
    _, unseen = coded(training, {"stage": ["Stage II", "Stage IV", "Stage 0"]})
    assert seen[0, 0] < unseen[0, 0] < seen[1, 0]
    np.testing.assert_array_equal(unseen[1], seen[2])
    np.testing.assert_array_equal(unseen[2], seen[0])


def test_an_unknown_stage_counts_as_the_median_and_has_a_separate_column():
    training = {"stage": ["I", "II", "III", None, "Stage X"]}
    _, x = coded(training)
    np.testing.assert_array_equal(x[3], x[4])
    np.testing.assert_array_equal(x[3, [0, 2, 3]], x[1, [0, 2, 3]])  # II but for the column that says so
    np.testing.assert_array_equal(x[:, 1] > 0, [False, False, False, True, True])
    _, whole = coded({"stage": ["I", "II", "III"]}, {"stage": [None, "not reported", "nonsense"]})
    np.testing.assert_array_equal(whole, np.repeat(coded({"stage": ["I", "II", "III"]})[1][[1]], 3, axis=0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stage", ["I", "II", "early"]),
        ("histology", ["adenocarcinoma", "squamous"]),
        ("subtype", ["I", "II", "III"]),
        ("immune", ["C1", "C2", "C3"]),
        ("fab", ["M0", "M1", "M4"]),
        ("hcv", ["1a", "1b", "2a"]),
        ("mutation", ["G12C", "G12D", "G13D"]),
    ],
)
def test_levels_that_are_on_no_known_scale_have_no_order(name, words):
    code, x = coded({name: words})
    assert isinstance(code.codes[name], NominalCode)
    assert x.shape == (len(words), len(words) - 1)


def test_numeric_covariates_stay_numeric():
    code, x = coded({"ecog": [0.0, 1, 2, 1]})
    assert isinstance(code.codes["ecog"], NumberCode)
    assert x.shape == (4, 1)


def test_the_config_states_an_order_or_that_there_is_none():
    words = {"response": ["CR", "PD", "PR", "SD"]}
    code, x = coded(words, response=("CR", "PR", "SD", "PD"))
    assert code.describe() == {"response": "4 levels in order (CR < PR < SD < PD)"}
    np.testing.assert_array_equal(np.argsort(x[:, 0]), [0, 2, 3, 1])
    assert isinstance(coded({"stage": ["I", "II", "III"]}, stage=())[0].codes["stage"], NominalCode)
    assert coded({"code": ["1", "2", "3"]}, code=())[1].shape == (3, 2)

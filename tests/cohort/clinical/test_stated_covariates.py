"""What a config may state about the levels of clinical covariates, and how their values are then read."""

import pandas as pd
import pytest

from dmml.cohort.clinical.stated_covariates import parse_covariates
from dmml.cohort.clinical.table import read_clinical
from dmml.errors import InputError


def read(tmp_path, values, entry):
    path = tmp_path / "clinical.csv"
    pd.DataFrame({"patient_id": [f"p{i}" for i in range(len(values))], "x": values}).to_csv(path, index=False)
    return read_clinical(path, covariates=[entry])


def test_levels_are_stated_from_the_lowest_to_the_highest():
    covariates = ["age", {"name": "stage", "levels": ["I", "II"]}, {"name": "code", "ordered": False}, {"name": "sex"}]
    assert parse_covariates(covariates) == {"age": None, "stage": ("I", "II"), "code": (), "sex": None}
    assert parse_covariates([{"name": "grade", "levels": [1, 2.0, 3]}]) == {"grade": ("1", "2", "3")}
    assert parse_covariates(None) == {}


def test_values_take_the_spelling_of_the_stated_levels(tmp_path):
    clinical = read(
        tmp_path, ["stage ii", "Stage I", None, "unknown"], {"name": "x", "levels": ["Stage I", "Stage II"]}
    )
    assert clinical.covariates["x"].fillna("").tolist() == ["Stage II", "Stage I", "", ""]
    assert clinical.covariate_levels == {"x": ("Stage I", "Stage II")}


def test_numbers_may_be_levels_and_need_no_order(tmp_path):
    entry = {"name": "x", "levels": [3, 1, 2]}
    assert read(tmp_path, [1, None, 3], entry).covariates["x"].fillna("").tolist() == ["1", "", "3"]  # 1.0 in the file
    clinical = read(tmp_path, [1, None, 3], {"name": "x", "ordered": False})
    assert clinical.covariates["x"].fillna("").tolist() == ["1", "", "3"]
    assert clinical.covariate_levels == {"x": ()}


def test_a_value_outside_the_stated_levels_is_refused_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"clinical.csv: line 4: 'III' in 'x' .* not one of its levels \(I, II\)"):
        read(tmp_path, ["I", "II", "III"], {"name": "x", "levels": ["I", "II"]})


@pytest.mark.parametrize("word", ["Stage X", "TX", "NX", "GX", "X", "Unknown", "Not Assessed", "cannot be assessed"])
def test_words_for_not_assessed_among_numbers_are_unknown(tmp_path, word):
    clinical = read(tmp_path, [1, 2, 3, 4, word, 2], "x")
    assert clinical.covariates["x"].fillna(-1).tolist() == [1, 2, 3, 4, -1, 2]
    clinical = read(tmp_path, [1, 2, 3, word], {"name": "x", "levels": [1, 2, 3]})
    assert clinical.covariates["x"].fillna("").tolist() == ["1", "2", "3", ""]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (7, "7 names no column"),
        ({"levels": ["I", "II"]}, "names no column"),
        ({"name": "x", "level": ["I", "II"]}, "unknown key 'level'"),
        ({"name": "x", "levels": "I, II"}, "is not a list"),
        ({"name": "x", "levels": ["I"]}, "two or more"),
        ({"name": "x", "levels": ["I", "i"]}, "and all different"),
        ({"name": "x", "levels": [True, False]}, "put quotes around words such as 'yes'"),
        ({"name": "x", "levels": ["I", "II"], "ordered": False}, "only be false without levels"),
        ({"name": "x", "ordered": "no"}, "true or false"),
        ("age", "named twice"),
    ],
)
def test_other_forms_of_covariates_are_refused(entry, why):
    with pytest.raises(InputError, match=why) as refused:
        parse_covariates(["age", entry])
    assert "\n" not in str(refused.value)

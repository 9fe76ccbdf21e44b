"""One dataclass states the arguments of a data section that describe a cohort."""

import inspect

import pytest

from dmml.cohort.cohort_config import CohortConfig, file_arguments, shared_arguments, text_arguments
from dmml.errors import InputError


def test_a_section_fills_in_defaults_and_ignores_arguments_of_the_loading():
    config = CohortConfig.from_section({"clinical": "c.csv", "features": "f.zarr", "batch_size": 2, "fold": None})
    assert config == CohortConfig("c.csv", features="f.zarr")
    assert config.fold == 0
    assert config.section()["patient_id"] == "patient_id"


def test_a_config_knows_the_sections_that_describe_its_cohort():
    section = {"clinical": "c.csv", "features": "f.zarr", "fold": 1}
    config = CohortConfig.from_section(section)
    assert config.describes(section | {"batch_size": 2, "magnifications": [*config.magnifications]})
    assert not config.describes(section | {"fold": 2})
    assert not config.describes(section | {"magnifications": [10]})


def test_an_empty_value_is_no_column_of_slides_and_the_default_column_of_patients():
    section = {"clinical": "c.csv", "expression": "e.csv", "slide_id": None, "patient_id": None}
    config = CohortConfig.from_section(section)
    assert config.slide_id is None
    assert config.patient_id == "patient_id"


def test_further_cohorts_take_over_what_all_share():
    first = CohortConfig(
        "a.csv",
        expression="a.parquet",
        gene_sets={"most_variable": 0.3},
        fold=2,
        split={"folds": 3, "site": "hospital"},
    )
    also = [{"clinical": "b.csv", "features": "b.zarr"}, {"clinical": "c.csv", "features": "c.zarr", "split": "c.csv"}]
    alone, second, third = CohortConfig(**(first.section() | {"also": also})).each_cohort()
    assert alone == first
    assert (second.gene_sets, second.fold, second.expression) == ({"most_variable": 0.3}, 2, None)
    assert second.split == {"folds": 3, "site": True}  # the column of the first cohort need not exist in the second
    assert third.split == "c.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": None}, "c.csv: data names neither expression nor features"),
        ({"standardise": "cohort"}, "data.standardise: 'cohort' is not one of training, within_cohort"),
        ({"recalibrate": 1}, "data.recalibrate: 1 is no share of a cohort"),
        ({"clinical": None}, "data: no clinical table is named"),
    ],
)
def test_values_are_checked_before_a_file_is_read(change, message):
    with pytest.raises(InputError, match=message):
        CohortConfig.from_section({"clinical": "c.csv", "features": "f.zarr"} | change)


def test_a_fit_does_not_standardise_within_the_cohort():
    config = CohortConfig("c.csv", expression="e.csv", standardise="within_cohort")
    config.check_stage("test")
    with pytest.raises(
        InputError, match=r"data\.standardise: within_cohort is for test and predict; leave it out of fit"
    ):
        config.check_stage("fit")


def test_kinds_of_arguments_follow_from_the_fields():
    assert file_arguments() == ["clinical", "expression", "gene_sets", "features", "split"]
    assert text_arguments() == ["clinical", "name", "patient_id", "slide_id", "features", "standardise"]
    assert shared_arguments(CohortConfig) == ["gene_sets", "fold", "magnifications", "standardise", "recalibrate"]


def test_every_argument_is_explained():
    explained = inspect.getdoc(CohortConfig)
    assert [name for name in CohortConfig.__dataclass_fields__ if f"\n    {name}: " not in explained] == []

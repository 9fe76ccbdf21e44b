"""`predictions.csv` is read back as it was written: numbers as numbers, text as text, unknown values as unknown."""

import numpy as np
import pandas as pd
import pytest

from dmml.evaluation.predictions import predictions_table, read_predictions, write_table

ROWS = [
    {"patient_id": "007", "time": 61.0, "event": 1.0, "risk": 0.1 + 0.2, "site": "north, upper", "stage": "2", "n": 3},
    {"patient_id": "NA", "time": None, "event": None, "risk": 1e-300, "site": None, "stage": "NA", "n": None},
    {"patient_id": "c", "time": float("nan"), "event": 0.0, "risk": -2.5, "site": "south", "stage": "4", "n": 5},
]


@pytest.fixture
def written(tmp_path):
    write_table(tmp_path / "predictions.csv", ROWS)
    return read_predictions(tmp_path / "predictions.csv")


def test_a_column_of_text_stays_text(written):
    assert written["site"].tolist()[::2] == ["north, upper", "south"]
    assert written["site"].isna().tolist() == [False, True, False]
    assert written["stage"].tolist() == ["2", "NA", "4"]


def test_numbers_are_read_exactly_and_unknown_ones_are_nan(written):
    assert written["risk"].tolist() == [0.1 + 0.2, 1e-300, -2.5]
    assert written["time"].tolist()[0] == 61
    assert written["time"].isna().tolist() == [False, True, True]
    np.testing.assert_array_equal(written["n"], [3, np.nan, 5])
    assert written["patient_id"].tolist() == ["007", "NA", "c"]


def test_the_table_in_memory_equals_the_one_read_from_the_file(written):
    pd.testing.assert_frame_equal(predictions_table(ROWS), written)


def test_text_in_a_column_of_numbers_is_an_unknown_value(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(
        "patient_id,time,event,risk,has_expression,n_tokens_10x\na,alive,1,0.5,True,7\nb,30,0,0.25,False,9\n"
    )
    table = read_predictions(path)
    np.testing.assert_array_equal(table["time"], [np.nan, 30])
    assert table["has_expression"].tolist() == [1, 0]
    assert table["n_tokens_10x"].dtype == np.int64

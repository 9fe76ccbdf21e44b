"""`dmml features import` of vectors: tables and arrays of many forms, and columns that must not slip in."""

import argparse
import gzip
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from dmml.commands import features
from dmml.errors import InputError
from dmml.slides.vectors.import_vectors import needs_single_precision
from dmml.store import FeatureStore

IDS = ["007", "TCGA-05-4249", "S 3"]


def command(*argv):
    parser = argparse.ArgumentParser()
    features.add_arguments(parser)
    features.run(parser.parse_args(["import", *map(str, argv), "--out", "v.zarr"]))
    return FeatureStore("v.zarr")


def refusal(*argv):
    with pytest.raises(InputError) as caught:
        command(*argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


def table(**more):
    values = np.random.default_rng(0).normal(size=(3, 4)).round(3)
    return pd.DataFrame({"slide_id": IDS} | {f"f{i}_HE": values[:, i] for i in range(4)} | more)


def vectors_of(store, slide):
    return store.read(slide, 20).features


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_a_table_of_any_kind_gives_the_same_store(ending, capsys):
    frame = table()
    if ending == "parquet":
        frame.to_parquet(f"t.{ending}")
    else:
        text = frame.to_csv(index=False, sep="\t" if ending == "tsv" else ",")
        opened = gzip.open if ending.endswith("gz") else open
        with opened(f"t.{ending}", "wt") as file:
            file.write(text)
    store = command(f"t.{ending}")
    assert store.slides() == sorted(IDS)
    assert store.holds_vectors
    assert store.attributes["feature_names"] == [f"f{i}_HE" for i in range(4)]
    for i, slide in enumerate(IDS):
        assert vectors_of(store, slide)[0] == pytest.approx(frame.iloc[i, 1:].to_numpy(float), rel=1e-3)
    out = capsys.readouterr().out
    assert "3 slides or patients written, 0 were already there; one vector each, 4 features in float16" in out
    assert "columns read: 'f0_HE', 'f1_HE', 'f2_HE', 'f3_HE'" in out
    assert "magnifications: [20]" in out


def test_several_rows_of_an_id_are_several_vectors_and_a_second_import_writes_nothing(capsys):
    frame = table()
    frame["case"] = ["A", "B", "A"]
    frame.to_csv("t.csv", index=False)
    for _ in range(2):
        store = command("t.csv", "--id", "case", "--columns", "*_HE")
    assert store.slides() == ["A", "B"]
    np.testing.assert_allclose(vectors_of(store, "A"), frame.iloc[[0, 2], 1:5].to_numpy(), rtol=1e-3)
    assert "0 slides or patients written, 2 were already there; 3 vectors, up to 2 each" in capsys.readouterr().out


def test_missing_values_stay_missing_and_empty_rows_are_left_out(capsys):
    frame = table(f4_HE=["-1", "NA", "9"])
    frame.loc[2, [f"f{i}_HE" for i in range(4)]] = -1
    frame.loc[2, "f4_HE"] = "nd"
    frame.to_csv("t.csv", index=False)
    assert "'f4_HE' ('nd')" in refusal("t.csv", "--missing", "-1")
    store = command("t.csv", "--missing", "-1", "ND")
    assert store.slides() == sorted(IDS[:2])
    assert np.isnan(vectors_of(store, "007")).tolist() == [[False] * 4 + [True]]
    out = capsys.readouterr().out
    assert "2 values missing" in out
    assert "1 rows without any value were left out ('S 3')" in out
    assert "1 features have no value in any row" in out


def test_float32_is_used_where_float16_overflows_or_rounds(capsys):
    values = np.random.default_rng(0).normal(size=(200, 3))
    assert not needs_single_precision(values)
    assert not needs_single_precision(np.where(values > 1, np.nan, values))
    assert not needs_single_precision(values * 1e3)
    assert needs_single_precision(values * 1e6)
    assert needs_single_precision(values + np.array([0, 0, 1_000]))
    assert needs_single_precision(values * [1, 1, 1e-7])
    assert not needs_single_precision(np.column_stack([values, np.full(200, 1 / 3)]))  # constant: nothing to round away

    frame = table(area_HE=[17_974_423.5, 3.0, 70_000.25])
    frame.to_csv("t.csv", index=False)
    store = command("t.csv")
    assert store.dtype == np.float32
    assert vectors_of(store, "007")[0, 4] == np.float32(17_974_423.5)
    assert "in float32" in capsys.readouterr().out


def test_a_float16_store_refuses_values_that_it_cannot_hold():
    table().to_csv("t.csv", index=False)
    command("t.csv")
    frame = table()
    frame["slide_id"], frame["f0_HE"] = ["x", "y", "z"], [1e6, 0, 1]
    frame.to_csv("u.csv", index=False)
    assert "keeps float16, which cannot hold these values" in refusal("u.csv")
    assert FeatureStore("v.zarr").slides() == sorted(IDS)


def test_columns_of_outcomes_ids_and_text_are_refused_with_advice():
    more = {
        "os": [1, 0, 1],
        "os_time": [3.0, 4, 5],
        "age_at_diagnosis": [60, 61, 62],
        "H & E_ID": [1, 2, 3],
        "note": ["a", "b", "c"],
    }
    table(**more).to_csv("t.csv", index=False)
    message = refusal("t.csv")
    for name in ("os", "os_time", "age_at_diagnosis", "H & E_ID"):
        assert repr(name) in message
    assert "--columns '*_HE'" in message
    message = refusal("t.csv", "--columns", "*")
    assert "'note' ('a')" in message
    assert "--drop 'note'" in message
    assert command("t.csv", "--columns", "*_HE", "os").n_features == 5  # who names a column gets it


def test_columns_are_dropped_by_name_and_unusual_ones_are_reported(capsys):
    table(extra=[1, 2, 3], other=[4, 5, 7]).to_csv("t.csv", index=False)
    command("t.csv", "--drop", "extra")
    assert "check 'other', whose names differ from those of the other columns" in capsys.readouterr().out
    assert "--drop 'nothing' matches none" in refusal("t.csv", "--drop", "nothing")
    assert "no column 'sample'" in refusal("t.csv", "--id", "sample")


def test_brackets_in_column_names_are_no_patterns():
    table(**{"AREA [TUMOR]_X": [1, 2, 4]}).to_csv("t.csv", index=False)
    assert command("t.csv", "--columns", "AREA [TUMOR]_X", "f?_HE").n_features == 5


def test_a_second_table_needs_the_same_columns_in_any_order():
    table().to_csv("t.csv", index=False)
    command("t.csv")
    other = table()
    other["slide_id"] = ["x", "y", "z"]
    other[["slide_id", "f3_HE", "f0_HE", "f2_HE", "f1_HE"]].to_csv("u.csv", index=False)
    store = command("u.csv")
    np.testing.assert_array_equal(vectors_of(store, "x"), vectors_of(store, "007"))
    other.drop(columns="f1_HE").to_csv("w.csv", index=False)
    assert "lacks features that the others have ('f1_HE')" in refusal("w.csv")
    other.assign(f9_HE=1.0).to_csv("w.csv", index=False)
    assert "has features that the others lack ('f9_HE')" in refusal("w.csv")


@pytest.mark.parametrize("lines", ["slide_id,a,b\nS1,1,inf\n", "slide_id,a,b\n,1,2\n", "a,b\n1,2\n"])
def test_a_mistake_in_a_table_is_named(lines):
    with open("t.csv", "w") as file:
        file.write(lines)
    wanted = {"i": "line 2 has an infinite 'b'", ",": "line 2 has no 'slide_id'", "a": "name it with --id"}
    key = "i" if "inf" in lines else "a" if lines.startswith("a") else ","
    assert wanted[key] in refusal("t.csv")


def test_instances_in_a_row_are_recognised_by_column_names_in_any_order(capsys):
    """Statistic, kind of cell, measure: the instance is neither the first part of a name nor a block of columns."""
    kinds, measures = ["CANCER CELL", "PLASMA CELL", "(UNKNOWN)"], ["AREA", "SOLIDITY"]
    columns = [f"{stat}[{kind}_{what}]" for stat in ("MEAN", "STD") for kind in kinds for what in measures]
    frame = pd.DataFrame({"id": ["S1", "S2"]} | {name: [i, 5.0] for i, name in enumerate(columns)})
    frame.loc[1, [name for name in columns if "CANCER" in name]] = np.nan
    frame.to_csv("t.csv", index=False)
    store = command("t.csv", "--instances", 3)
    assert store.attributes["feature_names"] == ["MEAN[*_AREA]", "MEAN[*_SOLIDITY]", "STD[*_AREA]", "STD[*_SOLIDITY]"]
    assert vectors_of(store, "S1").tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert vectors_of(store, "S2").tolist() == [[5.0] * 4] * 2  # cancer cells of S2 were not measured
    out = capsys.readouterr().out
    assert "3 instances of 4 features: CANCER CELL, PLASMA CELL, (UNKNOWN)" in out
    assert "1 of 6 instances have no value" in out
    assert "cannot be divided into --instances 5 of equal width" in refusal("t.csv", "--instances", 5)
    assert "several ways (MEAN, STD; AREA, SOLIDITY)" in refusal("t.csv", "--instances", 2)


def test_instances_without_informative_names_are_blocks_of_columns(capsys):
    table().to_csv("t.csv", index=False)
    store = command("t.csv", "--instances", 2)
    frame = table()
    np.testing.assert_allclose(vectors_of(store, "007"), frame.iloc[0, 1:].to_numpy(float).reshape(2, 2), rtol=1e-3)
    assert "blocks of 2 consecutive columns, which begin with 'f0_HE', 'f2_HE'" in capsys.readouterr().out


def test_ids_of_npz_files_keep_leading_zeros():
    np.savez("v.npz", **{"001": np.arange(4.0), "012": np.ones((2, 4))})
    store = command("v.npz")
    assert store.slides() == ["001", "012"]
    assert vectors_of(store, "001").tolist() == [[0, 1, 2, 3]]
    assert len(vectors_of(store, "012")) == 2


def test_a_word_as_missing_value_of_an_array_is_refused():
    np.savez("v.npz", a=np.array([1.0, -1.0]))
    assert "--missing 'NA' is not a number" in refusal("v.npz", "--missing", "NA")
    assert np.isnan(vectors_of(command("v.npz", "--missing", "-1"), "a")).tolist() == [[False, True]]


def test_npy_files_are_read_with_a_file_of_ids():
    np.save("e.npy", np.arange(6.0).reshape(3, 2))
    assert "give a file with one id per line with --ids" in refusal("e.npy")
    with open("names.txt", "w") as file:
        file.write("slide_id\n" + "\n".join(IDS) + "\n")
    store = command("e.npy", "--ids", "names.txt")
    assert vectors_of(store, "TCGA-05-4249").tolist() == [[2, 3]]
    with open("names.txt", "a") as file:
        file.write("one more\n")
    assert "4 ids for 3 vectors" in refusal("e.npy", "--ids", "names.txt")


def test_hdf5_files_of_slide_encoders_hold_one_slide_each(tmp_path):
    import h5py

    folder = tmp_path / "slide_features_titan"
    folder.mkdir()
    for i, slide in enumerate(IDS):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = np.full(3, i, np.float32)
            file["coords"] = np.zeros((9, 2))
    store = command(folder)
    assert store.attributes["encoder"]["name"] == "titan"
    assert vectors_of(store, "S 3").tolist() == [[2, 2, 2]]


def test_hdf5_and_tensor_files_with_ids_are_read():
    import h5py

    with h5py.File("e.h5", "w") as file:
        file["ids"] = [name.encode() for name in IDS]
        file["embeddings"] = np.arange(6.0).reshape(3, 2)
    assert vectors_of(command("e.h5"), "S 3").tolist() == [[4, 5]]
    torch.save({"filenames": ["a.svs", "b.svs"], "embeddings": torch.arange(4.0).view(2, 2).bfloat16()}, "t.pt")
    assert vectors_of(command("t.pt"), "b").tolist() == [[2, 3]]
    torch.save({"c": torch.ones(2), "d": torch.ones(3, 2)}, "u.pt")
    assert len(vectors_of(command("u.pt"), "d")) == 3


def test_nothing_is_unpickled_and_tiles_are_not_taken_for_vectors():
    torch.save({"a": argparse.Namespace()}, "t.pt")
    assert "nothing is unpickled" in refusal("t.pt", "--vectors")
    np.save("o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "nothing is unpickled" in refusal("o.npy")
    torch.save(torch.ones(5, 4), "tiles.pt")
    assert "features without coordinates" in refusal("tiles.pt", "--encoder", "x")
    assert len(vectors_of(command("tiles.pt", "--vectors"), "tiles")) == 5


def test_different_widths_repeated_ids_and_options_for_tiles_are_refused():
    np.savez("a.npz", S1=np.ones(3))
    np.savez("b.npz", S2=np.ones(4))
    np.savez("c.npz", S1=np.zeros(3))
    assert "4 features, but the others have 3" in refusal("a.npz", "b.npz")
    assert "S1 is also in a.npz" in refusal("a.npz", "c.npz")
    assert "--mpp: is for tiles" in refusal("a.npz", "--mpp", 0.25)
    assert "arrays have no named columns" in refusal("a.npz", "--id", "x")
    assert "no such file" in refusal("nowhere.npz", "--vectors")


def test_a_workbook_is_read_if_pandas_can_read_it():
    pytest.importorskip("openpyxl")
    table().to_excel("t.xlsx", index=False)
    assert vectors_of(command("t.xlsx"), "007").shape == (1, 4)


def test_a_missing_package_for_workbooks_is_named_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with zipfile.ZipFile("t.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "")
    assert "pip install openpyxl; or save the sheet as CSV" in refusal("t.xlsx", "--id", "x")


def test_verify_and_list_call_vectors_vectors(capsys):
    frame = table()
    frame["slide_id"] = ["A", "B", "A"]
    frame.loc[0, "f1_HE"] = np.nan
    frame.to_csv("t.csv", index=False)
    store = command("t.csv")
    parser = argparse.ArgumentParser()
    features.add_arguments(parser)
    features.run(parser.parse_args(["verify", "v.zarr"]))
    features.run(parser.parse_args(["list", "v.zarr"]))
    out = capsys.readouterr().out
    assert "2 slides, all sound" in out
    assert "2 slides, 3 vectors at 20x; vectors, 4 features" in out
    assert store.n_features == 4


@pytest.mark.slow
def test_published_histology_tables_of_luad_and_hancock_are_imported(shared_data, capsys):
    """607 features of 501 slides, of which 27 patients have several; outcome columns stand at the table's end."""
    path = shared_data / "tcga_luad_histology" / "luad_hifs.csv.gz"
    message = refusal(path, "--id", "case")
    assert "--columns '*_HE'" in message
    assert "'os'" in message
    store = command(path, "--id", "case", "--columns", "*_HE", "--missing", "-1")
    assert (len(store.slides()), store.n_features, store.dtype) == (444, 607, np.float32)
    assert "501 vectors, up to 8 each" in capsys.readouterr().out
    raw = pd.read_csv(path)
    names = store.attributes["feature_names"]
    assert names == [name for name in raw if name.endswith("_HE")]
    for slide in store.slides()[::50]:
        wanted = raw.loc[raw["case"] == slide, names].replace(-1, np.nan).to_numpy(np.float32)
        np.testing.assert_array_equal(vectors_of(store, slide), wanted)

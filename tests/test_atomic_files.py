"""A file is written completely or not at all, and nothing else is left behind."""

import json

import numpy as np
import pytest

from dmml.atomic_files import atomic_write, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_complete_file_replaces_the_old_one(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "old\n")
    write_text(tmp_path / "new" / "a.txt", "line\r\n", newline="")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"line\r\n"
    assert names(tmp_path / "new") == ["a.txt"]


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def write_half():
        with atomic_write(tmp_path / "a.txt") as partial:
            partial.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_library_that_appends_suffixes_writes_the_right_file(tmp_path, durable):
    with atomic_write(tmp_path / "a.npz", durable=durable) as partial:
        np.savez(partial, x=np.arange(3))
        assert names(tmp_path) == [partial.name]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]
    assert names(tmp_path) == ["a.npz"]


def test_json_writes_paths_as_strings(tmp_path):
    write_json(tmp_path / "a.json", {"folder": tmp_path, "n": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"folder": str(tmp_path), "n": 1}

"""Results that are carried to another machine in a zip file arrive there as they were."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def write(work: Path, model: str, **values) -> Path:
    path = work / "shared" / "200" / "100" / f"{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"model": model, **values}))
    return path


def test_results_arrive_with_rounded_risks_and_exact_numbers(tmp_path):
    from kept_cells import pack, unpack

    source, target, file = tmp_path / "source", tmp_path / "target", tmp_path / "cells.zip"
    write(source, "a", risk=[0.123456789, -12345678.9], c_index=0.123456789, definition="x", setup={"dim": 16})
    checkpoint = source / "shared" / "200" / "100" / "checkpoints" / "a.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    assert pack(source, file) == 1
    assert unpack(file, target) == 1
    (path,) = [each for each in target.rglob("*") if each.is_file()]
    assert path.relative_to(target) == Path("shared/200/100/a.json")
    kept = json.loads(path.read_text())
    assert kept["risk"] == [0.123457, -12345700.0]
    assert (kept["c_index"], kept["definition"], kept["setup"]) == (0.123456789, "x", {"dim": 16})


def test_results_that_are_there_stay(tmp_path):
    from kept_cells import pack, unpack

    file = tmp_path / "cells.zip"
    write(tmp_path / "source", "a", risk=[1.0])
    pack(tmp_path / "source", file)
    present = write(tmp_path / "target", "a", risk=[2.0])
    assert unpack(file, tmp_path / "target") == 0
    assert json.loads(present.read_text())["risk"] == [2.0]


def test_the_same_results_give_the_same_file(tmp_path):
    from kept_cells import pack, unpack

    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    for model in ("b", "a"):
        write(tmp_path / "source", model, risk=[1 / 3])
    pack(tmp_path / "source", first)
    unpack(first, tmp_path / "target")
    pack(tmp_path / "target", second)
    assert first.read_bytes() == second.read_bytes()

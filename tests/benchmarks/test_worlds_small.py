"""The benchmark of the worlds in a short form: real fits that are resumed, and the page of their results."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODELS = ("ridge_rna", "ridge_tokens", "ridge_joint", "ridge_stack", "histology_abmil", "student")


def arguments(work: Path, *more: str) -> list[str]:
    size = ["--patients", "40", "--seeds", "1", "--test", "30", "--features", "16", "--max-epochs", "1", "--jobs", "1"]
    return ["--worlds", "tissue_only", *size, "--work", str(work), "--out", str(work / "out"), *more]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The short form, run once: its folder and its output."""
    work, printed = tmp_path_factory.mktemp("worlds"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("OMP_NUM_THREADS", "1")
        from worlds import main

        main(arguments(work, "--models", *MODELS))
    return work, printed.getvalue()


def kept(work: Path, model: str) -> dict:
    return json.loads((work / "tissue_only" / "40" / "1" / f"{model}.json").read_text())


def test_every_cell_is_kept_with_the_risks_of_the_tested_patients(short):
    from lifelines.utils import concordance_index

    work, printed = short
    truth = kept(work, "truth")
    assert set(truth) == {"time", "event", "oracle", "oracle_rna", "oracle_slide", "oracle_both", "h"}
    for model in (*MODELS, "teacher"):
        cell = kept(work, model)
        assert len(cell["risk"]) == len(truth["time"]) == 30
        expected = concordance_index(truth["time"], -np.array(cell["risk"]), truth["event"])
        assert cell["c_index"] == pytest.approx(expected, abs=1e-9)
    assert printed.startswith("7 of 7 cells to make"), "the teacher of the student among them"
    assert not list(work.rglob(".fit_*")), "nothing half-made is left"


def test_the_page_shows_the_results_of_the_cells(short):
    work, printed = short
    page = (work / "out" / "worlds.md").read_text()
    assert page in printed
    block = json.loads((work / "out" / "worlds.json").read_text())["blocks"][0]
    truth = kept(work, "truth")
    for model in (*MODELS, "teacher"):
        cell, row = kept(work, model), block["models"][model]
        assert row["by_seed"] == pytest.approx([cell["c_index"]])
        assert row["low"] <= row["value"] <= row["high"]
        assert row["correlation"] == pytest.approx(spearmanr(cell["risk"], truth["h"]).statistic)
        assert f"| {model} | {row['value']:.3f} (" in page
    best = max(MODELS[:4], key=lambda name: kept(work, name)["c_index"])
    pair = next(pair for pair in block["pairs"] if (pair["a"], pair["b"]) == ("teacher", "best_reference"))
    assert pair["against"] == best
    assert pair["estimate"] == pytest.approx(kept(work, "teacher")["c_index"] - kept(work, best)["c_index"])


def test_a_second_run_fits_nothing_but_a_lost_cell_with_the_same_risks(short):
    import worlds

    work, _ = short
    messages = []
    worlds.main(arguments(work, "--models", *MODELS), messages.append)
    assert messages[0].startswith("0 of 7 cells to make")
    before = {model: kept(work, model) for model in ("ridge_joint", "student")}
    for model in before:
        (work / "tissue_only" / "40" / "1" / f"{model}.json").unlink()
    messages.clear()
    worlds.main(arguments(work, "--models", *MODELS), messages.append)
    assert messages[0].startswith("2 of 7 cells to make")
    for model, cell in before.items():
        assert kept(work, model)["risk"] == cell["risk"]


def test_a_killed_run_keeps_finished_cells(short, monkeypatch, tmp_path):
    import worlds
    import worlds_cells

    predict = worlds_cells.predict_reference

    def dies(name, world):
        if name == "ridge_joint":
            raise KeyboardInterrupt
        return predict(name, world)

    monkeypatch.setattr(worlds_cells, "predict_reference", dies)
    references = MODELS[:4]
    with pytest.raises(KeyboardInterrupt):
        worlds.main(arguments(tmp_path, "--models", *references), lambda _: None)
    folder = tmp_path / "tissue_only" / "40" / "1"
    assert {path.stem for path in folder.glob("*.json")} == {"truth", "ridge_rna", "ridge_tokens"}
    monkeypatch.undo()
    messages = []
    worlds.main(arguments(tmp_path, "--models", *references), messages.append)
    assert messages[0].startswith("2 of 4 cells to make")
    assert json.loads((folder / "ridge_stack.json").read_text())["risk"] == kept(short[0], "ridge_stack")["risk"]


def test_a_cell_that_fails_is_named_and_the_others_are_fitted(monkeypatch, tmp_path):
    import worlds
    import worlds_cells

    predict, calls = worlds_cells.predict_reference, []

    def fails_once(name, world):
        calls.append(name)
        if len(calls) == 1:
            raise ValueError("singular")
        return predict(name, world)

    monkeypatch.setattr(worlds_cells, "predict_reference", fails_once)
    more = ("--models", "ridge_rna", "--seeds", "1", "2")
    with pytest.raises(
        SystemExit, match=r"1 of the cells could not be finished: tissue_only, .*, ridge_rna: ValueError: singular"
    ):
        worlds.main(arguments(tmp_path, *more), lambda _: None)
    assert not (tmp_path / "tissue_only" / "40" / "1" / "ridge_rna.json").exists()
    assert (tmp_path / "tissue_only" / "40" / "2" / "ridge_rna.json").is_file()
    assert "| ridge_rna |" in (tmp_path / "out" / "worlds.md").read_text()


def test_two_processes_give_the_same_cells_as_one(short, tmp_path):
    import worlds

    more = ("--models", "ridge_rna", "ridge_tokens", "--seeds", "1", "2", "--jobs", "2")
    worlds.main(arguments(tmp_path, *more), lambda _: None)
    assert len(list(tmp_path.glob("tissue_only/40/*/ridge_*.json"))) == 4
    one = json.loads((tmp_path / "tissue_only" / "40" / "1" / "ridge_rna.json").read_text())
    assert one["risk"] == kept(short[0], "ridge_rna")["risk"]


def test_other_settings_are_other_cells(short):
    import worlds
    from worlds_cells import Group, missing_cells
    from worlds_data import Setup

    work, _ = short
    group = Group("tissue_only", 40, 1)
    assert missing_cells(group, ["teacher", "student"], Setup(30, 16, 1), work) == []
    assert missing_cells(group, ["teacher", "student"], Setup(30, 16, 2), work) == ["teacher", "student"]
    assert missing_cells(group, ["student_undistilled"], Setup(30, 16, 1), work) == ["student_undistilled"]
    assert worlds.pending({group: ["teacher", "student"]}, Setup(30, 16, 1), work) == {}


def test_a_teacher_without_its_checkpoint_is_fitted_again_only_for_a_student_that_is_missing(short, tmp_path):
    from worlds_cells import Group, missing_cells
    from worlds_data import Setup

    group, setup = Group("tissue_only", 40, 1), Setup(30, 16, 1)
    shutil.copytree(short[0], tmp_path / "work", ignore=shutil.ignore_patterns("checkpoints"))
    assert missing_cells(group, ["teacher", "student"], setup, tmp_path / "work") == []
    (group.folder(tmp_path / "work") / "student.json").unlink()
    assert missing_cells(group, ["teacher", "student"], setup, tmp_path / "work") == ["teacher", "student"]


@pytest.mark.parametrize("model", ["transmil_like", "mcat_like", "late_fusion"])
def test_rivals_are_fitted_like_the_others(model, tmp_path):
    import worlds

    worlds.main(arguments(tmp_path, "--models", model), lambda _: None)
    risk = json.loads((tmp_path / "tissue_only" / "40" / "1" / f"{model}.json").read_text())["risk"]
    assert np.isfinite(risk).all()
    assert np.std(risk) > 0


def test_shifted_sites_are_tested_on_other_sites(tmp_path):
    from worlds_data import Setup, read_world

    world = read_world("site_shift", 40, 1, Setup(12, 16, 1), tmp_path)
    assert [len(world.fitting.patients(part)) for part in ("train", "val")] == [30, 10]
    assert len(world.test) == 12
    assert all("-H" in patient for patient in world.test)
    other = read_world("shared", 40, 1, Setup(12, 16, 1), tmp_path / "shared")
    assert all("-D" in patient for patient in other.test)
    assert not set(other.test) & {patient for part in ("train", "val") for patient in other.fitting.patients(part)}


def test_cohorts_of_any_size_have_the_same_test_patients(tmp_path):
    from worlds_data import Setup, read_world

    few, many = (read_world("shared", n, 1, Setup(12, 16, 1), tmp_path / str(n)) for n in (20, 40))
    assert few.test == many.test
    assert set(few.fitting.patients("train")) < set(many.fitting.patients("train"))


def test_the_design_has_all_worlds_sizes_and_models():
    from worlds import design, parse, selected_plan

    from dmml.simulate.worlds import WORLDS

    plan = design()
    assert {group.world for group in plan} == set(WORLDS)
    assert sum(group.patients == 200 for group in plan) == 4 * len(WORLDS) + 4  # null has eight seeds
    assert {(g.world, g.seed) for g in plan if g.patients == 800} == {
        (world, seed) for world in ("shared", "tissue_only", "rare_tissue", "token_interaction") for seed in (1, 2)
    }
    assert all(
        {"teacher", "student", "student_undistilled", "histology_abmil"} <= set(models) for models in plan.values()
    )
    assert sum("mcat_like" in models for models in plan.values()) == 2 * len(WORLDS)
    some = selected_plan(parse(["--worlds", "null", "--seeds", "5", "--models", "student"]))
    assert [(group.world, group.patients, group.seed, models) for group, models in some.items()] == [
        ("null", 200, 5, ["teacher", "student"])
    ]


def test_a_variant_with_unknown_arguments_is_left_out_with_a_message(capsys, monkeypatch):
    from worlds import parse, selected_plan
    from worlds_networks import NETWORKS, Network

    monkeypatch.setitem(NETWORKS, "student", Network("SubspaceStudent", {"no_such_argument": None}))
    some = selected_plan(parse(["--worlds", "null", "--seeds", "5", "--models", "student", "ridge_rna"]))
    assert list(some.values()) == [["ridge_rna"]]
    assert "student: left out; SubspaceStudent has no argument no_such_argument" in capsys.readouterr().out


def test_targets_are_reached_or_missed_as_computed_by_hand():
    from worlds_targets import targets

    def pair(a, b, estimate, low):
        return {"a": a, "b": b, "estimate": estimate, "low": low, "high": 2 * estimate - low}

    pairs = [pair("teacher", "ridge_rna", -0.002, -0.01), pair("student", "student_undistilled", 0.02, -0.001)]
    pairs += [pair("teacher", "best_reference", -0.02, -0.03), pair("student", "ridge_tokens", 0.05, 0.03)]
    shared = {"world": "shared", "patients": 200, "pairs": pairs, "models": {}}
    null = {"world": "null", "patients": 200, "pairs": []}
    null["models"] = {"teacher": {"value": 0.51, "low": 0.49, "high": 0.53, "correlation": None}}
    alone = [
        pair("teacher", "teacher_backbone_alone", 0.01, 0.002),
        pair("student", "student_backbone_alone", 0.01, -0.002),
    ]
    interacting = {"world": "token_interaction", "patients": 800, "pairs": alone, "models": {}}
    tissue = {"world": "tissue_only", "patients": 800, "pairs": alone, "models": {}}
    reached = {row["target"]: row["reached"] for row in targets([shared, null, interacting, tissue])}
    assert reached["800 patients, token_interaction: teacher − teacher_backbone_alone above 0"]
    assert not reached["800 patients, token_interaction: student − student_backbone_alone above 0"]
    assert reached["800 patients, tissue_only: student − student_backbone_alone not below 0"]
    assert reached["shared: teacher − ridge_rna ≥ -0.003"]
    assert reached["shared: student − ridge_tokens ≥ +0.040"]
    assert not reached["shared: student − student_undistilled above 0"]
    assert not reached["shared: teacher − best_reference ≥ -0.010"]
    assert reached["shared: student − ridge_tokens ≥ -0.010"]
    assert reached["null: the interval of the teacher's concordance holds 0.5"]
    assert reached["null: the interval of the student's concordance holds 0.5"] is None
    assert reached["tissue_only: rank correlation of the teacher's risk with h ≥ 0.35"] is None


def test_the_page_names_the_command_that_makes_it():
    from worlds import command_of, parse

    assert command_of(parse(["--page-only", "--work", "elsewhere", "--jobs", "1"])) == "python benchmarks/worlds.py"
    words = ["--worlds", "null", "--seeds", "5", "6", "--max-epochs", "2"]
    assert command_of(parse([*words, "--redo", "teacher"])) == " ".join(["python benchmarks/worlds.py", *words])


def test_the_picture_is_drawn_from_the_available_results(tmp_path):
    from worlds_picture import draw

    row = {"value": 0.7, "low": 0.6, "high": 0.75}
    block = {
        "world": "shared",
        "patients": 200,
        "best_reference": "ridge_rna",
        "models": {"ridge_rna": row, "teacher": row},
    }
    draw({"blocks": [block, block | {"patients": 800}]}, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    draw({"blocks": [block | {"patients": 800}]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()

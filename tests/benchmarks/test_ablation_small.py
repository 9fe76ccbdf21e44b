"""The ablation runs, continues where it stopped, and its networks are what their names say."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FITTED = ("deep_teacher", "deep_student", "deep_no_coordination", "deep_student_undistilled")


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--quick", "--jobs", "1", "--work", str(folder), "--out", str(folder / "out"), *more]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick form, run once: its folder and its output."""
    folder, printed = tmp_path_factory.mktemp("ablation"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("OMP_NUM_THREADS", "1")
        from ablation import main

        main(arguments(folder))
    return folder, printed.getvalue()


def kept(folder: Path, model: str) -> dict:
    return json.loads((folder / "shared" / "100" / "100" / f"{model}.json").read_text())


def test_the_quick_form_writes_every_fit_and_the_page(quick):
    from lifelines.utils import concordance_index

    folder, printed = quick
    truth, page = kept(folder, "truth"), (folder / "out" / "ablation.md").read_text()
    summary = json.loads((folder / "out" / "ablation.json").read_text())
    models = summary["scenes"][0]["models"]
    for name in FITTED:
        fit = kept(folder, name)
        expected = concordance_index(truth["time"], -np.array(fit["risk"]), truth["event"])
        assert models[name]["value"] == pytest.approx(expected, abs=1e-6)
        assert set(fit["facts"]["partial_r2"]) == {"true", "shown"}
    assert printed.startswith("9 of 9 cells to make")
    assert page in printed
    assert (folder / "out" / "ablation.png").is_file()
    (compared,) = summary["families"]["deep"]["deep_student_undistilled"]["comparisons"]
    assert compared["estimate"] == pytest.approx(
        models["deep_student"]["value"] - models["deep_student_undistilled"]["value"]
    )
    assert set(summary["ceilings"]) == {"shared 100"}


def test_a_second_run_fits_only_what_was_lost_or_redefined(quick, monkeypatch):
    from dataclasses import replace

    import ablation
    from ablation_networks import ABLATED

    folder, _ = quick
    messages = []
    ablation.main(arguments(folder), messages.append)
    assert messages[0].startswith("0 of 9 cells to make")
    before = kept(folder, "deep_student")["risk"]
    (folder / "shared" / "100" / "100" / "deep_student.json").unlink()
    ablation.main(arguments(folder), messages.append)
    assert kept(folder, "deep_student")["risk"] == before
    monkeypatch.setitem(ABLATED, "deep_teacher", replace(ABLATED["deep_teacher"], start=5))
    messages.clear()
    ablation.main(arguments(folder, "--plan-only"), messages.append)
    assert messages[0].startswith("2 of 9 cells to make"), "the teacher and its student"


def test_networks_have_the_losses_and_callbacks_that_their_names_say(quick, monkeypatch, tmp_path):
    import worlds_networks
    from ablation_networks import ABLATED
    from worlds_data import Setup, read_world

    sections = {}

    def build(name, section, trainer, *_):
        sections[name] = section, trainer
        raise InterruptedError

    monkeypatch.setattr(worlds_networks, "fit_network", build)
    world = read_world("shared", 40, 1, Setup(20, 16, 1), tmp_path / "cohort")
    for name in ABLATED:
        with pytest.raises(InterruptedError):
            worlds_networks.predict_network(name, world, 1, Setup(20, 16, 1), tmp_path / "checkpoints", ABLATED)
    callbacks = {name: str(trainer["callbacks"]) for name, (_, trainer) in sections.items()}
    assert "GradientCoordination" not in callbacks["deep_no_coordination"]
    assert all("GradientCoordination" in callbacks[name] for name in ("deep_teacher", "deep_again", "dmml_student"))
    assert "teacher" not in sections["deep_teacher"][0]["init_args"]
    assert sections["deep_student"][0]["init_args"]["teacher"].endswith("deep_teacher.ckpt")
    assert "teacher" not in sections["deep_student_undistilled"][0]["init_args"]
    for name in ("deep_teacher", "deep_student_one_merged"):
        assert sections[name][0]["init_args"]["backbone"] is None
    assert "backbone" not in sections["dmml_no_programs"][0]["init_args"]
    assert "'confidence': 'probability'" in callbacks["paper_teacher"]
    assert "reflect" not in callbacks["paper_teacher"]
    assert "reflect" in callbacks["released_reflect"]
    assert "GradientCoordination" not in callbacks["paper_student"], "the paper coordinates in stage I alone"
    assert sections["released_student_weights"][0]["init_args"]["teacher"].endswith("paper_teacher.ckpt")
    both = sections["paper_one_gene_group"][0]["init_args"]
    assert both["genes"]["tumor"] == both["genes"]["tme"]
    programs = world.fitting.programs()
    assert set(both["programs"]["tme"]) == {*programs["tumor"], *programs["tme"]}


def test_every_network_can_be_built_and_has_finite_losses(tmp_path):
    import torch
    from ablation_networks import ABLATED, BASELINE
    from batches import GENES, make_batch
    from models import PROGRAMS

    from dmml.experiment.crossval.fit import QUIET, build

    batch = make_batch((20, 12, 9, 16), (40, 30, 20, 33))
    batch.target["event"].fill_(1.0)
    for name, network in ABLATED.items():
        assert network.unknown_arguments == [], name
        if name == BASELINE:
            continue
        arguments = network.init_args | {"n_features": batch.bags[10].features.shape[2], "genes": GENES}
        section = {"class_path": network.class_path, "init_args": arguments | {"programs": PROGRAMS, "width": 16}}
        model, _ = build(section, QUIET | {"accelerator": "cpu", "default_root_dir": str(tmp_path)})
        model.task.fit({each: batch.target[each].double().numpy() for each in ("time", "event")})
        torch.manual_seed(0)
        terms = model.losses(batch)
        terms.total.backward()
        assert terms.total.isfinite(), name
        assert "consistency" not in terms.parts or terms.parts["consistency"] >= 0, name


def test_hidden_outcomes_and_large_slides_are_those_of_their_scenes(tmp_path):
    from worlds_data import Setup, read_world

    setup = Setup(10, 16, 1)
    plain, hidden = (read_world(name, 40, 1, setup, tmp_path / name) for name in ("shared", "few_outcomes"))
    assert hidden.test == plain.test
    assert np.isfinite(hidden.truth["time"]).all()
    assert hidden.fitting.patients("train") == plain.fitting.patients("train")
    assert hidden.fitting.with_outcome("train") == plain.fitting.patients("train")[:12]
    assert len(hidden.fitting.patients("val")) == 4
    assert all(map(hidden.fitting.has_expression, hidden.fitting.patients("train")))
    usual, many = (read_world(name, 20, 1, setup, tmp_path / name) for name in ("rare_tissue", "many_tokens"))
    tokens = [np.mean([len(w.testing.reader.read(p).features[20]) for p in w.test]) for w in (usual, many)]
    assert 5 < tokens[1] / tokens[0] < 12

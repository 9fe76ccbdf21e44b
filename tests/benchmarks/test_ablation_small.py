"""The ablation runs, continues where it stopped, and its variants are what their names say."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dmml.types import SUBSPACES

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


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


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--quick", "--jobs", "1", "--work", str(folder), "--out", str(folder), *more]


def test_the_quick_form_writes_every_fit_and_the_page(quick):
    from ablation_variants import QUICK
    from lifelines.utils import concordance_index

    folder, printed = quick
    truth = json.loads((folder / "seed_100" / "truth.json").read_text())
    summary = json.loads((folder / "ablation.json").read_text())
    assert set(summary["variants"]) == set(QUICK)
    assert len(list((folder / "teachers").glob("teacher_100_*.ckpt"))) == 1, "kept for the students"
    assert not list(folder.glob(".fit_*")), "nothing half-made is left"
    for name in QUICK:
        fit = json.loads((folder / "seed_100" / f"{name}.json").read_text())
        expected = concordance_index(truth["time"], -np.array(fit["risk"]), truth["event"])
        assert fit["c_index"] == pytest.approx(expected, abs=1e-12)
        assert summary["variants"][name]["c_index"]["value"] == pytest.approx(expected, abs=1e-6)
        assert fit["epochs"] == 2
    ceilings = summary["ceilings"]["shown"]
    for s in SUBSPACES:
        assert ceilings["partial_r2_shown"][s]["own"] > 0.99, "what a slide shows tells itself"
        assert ceilings["partial_r2"][s]["own"] < 0.8, "a correlation of 0.8 explains no more than 0.64 of a factor"
    page = (folder / "ablation.md").read_text()
    assert page in printed
    assert "--quick" in page
    assert page.count("no model: the factors as the slide shows them") == 1
    assert all(f"`{name}`" in page for name in QUICK)


def test_a_second_run_fits_nothing_and_prints_the_same(quick, monkeypatch):
    import ablation

    folder, _ = quick
    page = (folder / "ablation.md").read_text()
    monkeypatch.setattr(ablation, "fit_and_test", lambda *_: pytest.fail("redone"))
    messages = []
    ablation.main(arguments(folder), messages.append)
    assert messages[0] == "0 of 4 fits to make"
    assert (folder / "ablation.md").read_text() == page


def test_a_lost_result_is_fitted_again_with_the_same_risks(quick, monkeypatch):
    import ablation

    folder, _ = quick
    lost = folder / "seed_100" / "student.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    made, fit = [], ablation.fit_and_test
    monkeypatch.setattr(ablation, "fit_and_test", lambda name, *rest: made.append(name) or fit(name, *rest))
    torch.manual_seed(99)  # whatever was drawn before must not matter
    ablation.main(arguments(folder))
    after = json.loads(lost.read_text())
    assert made == ["student"]
    assert after["risk"] == before["risk"]


def test_changed_settings_and_changed_code_are_detected(quick, monkeypatch):
    import ablation_fit
    from ablation import QUICK_SETTINGS, pending
    from ablation_variants import BY_NAME

    folder, _ = quick
    variants = [BY_NAME["teacher"], BY_NAME["student"]]
    assert pending(variants, [100], QUICK_SETTINGS, folder) == [[], []]
    assert pending(variants, [101], QUICK_SETTINGS, folder) == [[("teacher", 101)], [("student", 101)]]
    longer = replace(QUICK_SETTINGS, epochs=3)
    assert pending(variants, [100], longer, folder) == [[("teacher", 100)], [("student", 100)]]
    assert ablation_fit.state_of(folder, variants[1], 100, longer) == "other settings"
    monkeypatch.setattr(ablation_fit, "CODE", "of tomorrow")
    assert pending(variants, [100], QUICK_SETTINGS, folder) == [[], []]
    assert pending(variants, [100], QUICK_SETTINGS, folder, redo=True) == [[("teacher", 100)], [("student", 100)]]


def test_every_variant_differs_from_the_others_and_can_be_trained(quick):
    from ablation import QUICK_SETTINGS
    from ablation_fit import _world, describe, digest, make_model, teacher_path
    from ablation_variants import VARIANTS

    world = _world(100, QUICK_SETTINGS)
    teacher = teacher_path(quick[0], "teacher", 100, QUICK_SETTINGS)
    for variant in VARIANTS:
        model = make_model(variant, world, QUICK_SETTINGS, teacher if variant.teacher else None)
        model.setup("fit")
        batch = next(iter(world.loader("val", model.task, 8)))
        terms = model.losses(batch)
        terms.total.backward()
        assert terms.total.isfinite(), variant.name
        assert ("distill_prediction" in terms.parts) == (variant.teacher is not None), variant.name
    assert len({digest(describe(variant, QUICK_SETTINGS)) for variant in VARIANTS}) == len(VARIANTS)


def test_the_undistilled_student_learns_from_outcomes_alone(quick):
    from ablation import QUICK_SETTINGS
    from ablation_fit import _world, make_model
    from ablation_variants import BY_NAME, STUDENT, UNDISTILLED

    world = _world(100, QUICK_SETTINGS)
    model = make_model(BY_NAME[UNDISTILLED], world, QUICK_SETTINGS, None)
    taught = make_model(BY_NAME[STUDENT], world, QUICK_SETTINGS, None)
    shapes = ({name: value.shape for name, value in each.named_parameters()} for each in (model, taught))
    assert next(shapes) == next(shapes), "the same network"
    batch = next(iter(world.loader("val", model.task, 8)))
    assert set(model.losses(batch).parts) == {"task"}


def test_the_control_permutes_the_rna_and_nothing_else(quick):
    from ablation import QUICK_SETTINGS
    from ablation_fit import _world

    world = _world(100, QUICK_SETTINGS)
    task = world.task()
    for part in ("val", "test"):
        original, permuted = (next(iter(world.loader(part, task, 64, 7, shuffled))) for shuffled in (False, True))
        moved = (original.expression["tumor"] != permuted.expression["tumor"]).any(1)
        assert moved.float().mean() > 0.5
        assert torch.equal(original.bags[10].features, permuted.bags[10].features)
        assert torch.equal(original.target["time"], permuted.target["time"])
        sums = [batch.expression["tumor"].sum(1).sort().values for batch in (original, permuted)]
        assert torch.equal(*sums), "the same profiles"
        row = {float(x): i for i, x in enumerate(original.expression["tumor"].sum(1))}
        origin = [row[float(x)] for x in permuted.expression["tumor"].sum(1)]
        assert torch.equal(permuted.expression["tme"], original.expression["tme"][origin]), (
            "a patient's RNA is dealt whole"
        )


def test_lists_of_seeds_and_of_variants_are_parsed():
    from ablation import parse, seeds_of, settings_of
    from ablation_variants import BY_NAME, closure

    assert seeds_of("100-102,105,101") == [100, 101, 102, 105]
    settings = settings_of(parse(["--patients", "100", "--width", "8"]))
    assert (settings.train, settings.val, settings.test, settings.width) == (80, 20, 400, 8)
    named = [variant.name for variant in closure(["student-shuffled-teacher"])]
    assert named == ["teacher", "teacher-shuffled-rna", "student", "student-undistilled", "student-shuffled-teacher"]
    assert [variant.name for variant in closure(BY_NAME)] == list(BY_NAME)
    with pytest.raises(SystemExit):
        parse(["--variants", "teacher,nothing"])


def test_early_stopping_is_that_of_the_command_line():
    from ablation_fit import Settings

    from dmml.training.optimisation import PATIENCE

    assert Settings.patience == PATIENCE

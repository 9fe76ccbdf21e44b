"""The ablation runs, goes on where it stopped, and measures what it says: against hand-made cases and closed forms."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    """Scripts import each other from their own folder, and ask for one thread."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick form, run once: its folder and what it printed."""
    folder, printed = tmp_path_factory.mktemp("ablation"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("OMP_NUM_THREADS", "1")
        from ablation import main

        main(arguments(folder))
    return folder, printed.getvalue()


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--quick", "--jobs", "1", "--work", str(folder), "--out", str(folder), *more]


def test_quick_form_leaves_every_fit_and_the_page(quick):
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
    page = (folder / "ablation.md").read_text()
    assert page in printed
    assert "--quick" in page
    assert all(f"`{name}`" in page for name in QUICK)


def test_a_second_run_fits_nothing_and_says_the_same(quick, monkeypatch):
    import ablation

    folder, _ = quick
    page = (folder / "ablation.md").read_text()
    monkeypatch.setattr(ablation, "fit_and_test", lambda *_: pytest.fail("redone"))
    shown = []
    ablation.main(arguments(folder), shown.append)
    assert shown[0] == "0 of 4 fits to make"
    assert (folder / "ablation.md").read_text() == page


def test_what_is_lost_is_fitted_again_to_the_same_risks(quick, monkeypatch):
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


def test_other_settings_and_other_code_are_noticed(quick, monkeypatch):
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


def test_every_variant_differs_and_can_take_a_step(quick):
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


def test_undistilled_learns_from_outcomes_alone(quick):
    from ablation import QUICK_SETTINGS
    from ablation_fit import _world, make_model
    from ablation_variants import BY_NAME, UNDISTILLED

    world = _world(100, QUICK_SETTINGS)
    model = make_model(BY_NAME[UNDISTILLED], world, QUICK_SETTINGS, None)
    batch = next(iter(world.loader("val", model.task, 8)))
    assert set(model.losses(batch).parts) == {"task"}


def test_control_deals_the_rna_anew_and_nothing_else(quick):
    from ablation import QUICK_SETTINGS
    from ablation_fit import _world

    world = _world(100, QUICK_SETTINGS)
    task = world.task()
    for part in ("val", "test"):
        own, dealt = (next(iter(world.loader(part, task, 64, 7, shuffled))) for shuffled in (False, True))
        moved = (own.expression["tumor"] != dealt.expression["tumor"]).any(1)
        assert moved.float().mean() > 0.5
        assert torch.equal(own.bags[10].features, dealt.bags[10].features)
        assert torch.equal(own.target["time"], dealt.target["time"])
        sums = [batch.expression["tumor"].sum(1).sort().values for batch in (own, dealt)]
        assert torch.equal(*sums), "the same profiles"
        row = {float(x): i for i, x in enumerate(own.expression["tumor"].sum(1))}
        origin = [row[float(x)] for x in dealt.expression["tumor"].sum(1)]
        assert torch.equal(dealt.expression["tme"], own.expression["tme"][origin]), "a patient's RNA is dealt whole"


# ---- measures ------------------------------------------------------------------------------------------------------


@pytest.fixture
def factors():
    from dmml.simulate.truth import CORRELATION

    drawn = np.random.default_rng(0).standard_normal((400, 6)) @ np.linalg.cholesky(CORRELATION).T
    return {"tumor": drawn[:, :3], "tme": drawn[:, 3:]}


def test_an_embedding_of_its_own_factors_has_one_and_zero(factors):
    from ablation_measures import partial_r2

    mixed = {s: values @ np.random.default_rng(1).standard_normal((3, 40)) for s, values in factors.items()}
    for of in partial_r2(mixed, factors).values():
        assert of["own"] > 0.999
        assert abs(of["other"]) < 0.02
    swapped = partial_r2({"tumor": mixed["tme"], "tme": mixed["tumor"]}, factors)
    for of in swapped.values():
        assert abs(of["own"]) < 0.02
        assert of["other"] > 0.999


def test_partial_r2_is_the_closed_form_and_noise_tells_nothing(factors):
    from ablation_measures import explained

    from dmml.simulate.truth import CORRELATION

    rng = np.random.default_rng(2)
    noisy = factors["tumor"] + 0.8 * rng.standard_normal((400, 3))
    a, b, c = CORRELATION[:3, :3], CORRELATION[:3, 3:], CORRELATION[3:, 3:]
    left = a - b @ np.linalg.solve(c, b.T)  # covariance of the tumor factors given the others
    read = left @ np.linalg.solve(left + 0.64 * np.eye(3), left)
    expected = np.mean(np.diag(read) / np.diag(left))
    assert explained(noisy, factors["tumor"], factors["tme"]) == pytest.approx(expected, abs=0.06)
    wide = rng.standard_normal((60, 128))  # more columns than patients: the penalty must not overfit
    assert explained(wide, factors["tumor"][:60], factors["tme"][:60]) == pytest.approx(0, abs=0.08)


def test_differences_are_those_of_the_paired_bootstrap():
    from ablation_measures import Resampled, difference

    from dmml.evaluation.bootstrap import paired_difference
    from dmml.evaluation.metrics import concordance_index

    time, event, a, b = _outcome(0)
    draws = Resampled({3: {"time": time, "event": event}}, 200)
    found = difference(draws.draws({3: a}), draws.draws({3: b}))
    expected = paired_difference(concordance_index, a, b, time, event, strata=event, n_resamples=200, seed=3)
    assert found == pytest.approx(expected, abs=1e-6)


def test_several_seeds_count_the_same():
    from ablation_measures import Resampled

    from dmml.evaluation.metrics import concordance_index

    seeds = {seed: _outcome(seed) for seed in (4, 5)}
    draws = Resampled({s: {"time": x[0], "event": x[1]} for s, x in seeds.items()}, 50)
    found = draws.draws({s: x[2] for s, x in seeds.items()})
    assert found.by_seed == pytest.approx([concordance_index(*x[:3]) for x in seeds.values()])
    assert found.mean == pytest.approx(found.by_seed.mean())
    assert found.resampled.std() > 0


def _outcome(seed: int):
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(80)
    time, event = rng.exponential(np.exp(-risk)), (rng.random(80) < 0.7).astype(float)
    return time, event, risk + rng.standard_normal(80), rng.standard_normal(80)


def test_share_of_the_gap_by_hand():
    from ablation_measures import Draws, share_closed

    noise = np.linspace(-0.01, 0.01, 101)
    start, goal = Draws(np.array([0.6, 0.62]), 0.61 + noise), Draws(np.array([0.7, 0.72]), 0.71 + noise)
    reached = Draws(np.array([0.67, 0.69]), 0.68 + noise)
    assert share_closed(reached, start, goal) == pytest.approx((0.7, 0.7, 0.7))
    level = Draws(np.array([0.61, 0.615]), 0.6125 - 2 * noise)
    assert share_closed(reached, start, level) is None, "a gap that may be none has no share"


def test_summary_names_what_helps_what_harms_and_what_failed():
    from ablation_summary import figures, summarise
    from ablation_table import markdown

    truths, results = {}, {}
    for seed in (0, 1):
        time, event, middling, useless = _outcome(seed)
        good = -np.argsort(np.argsort(time)).astype(float)
        truths[seed] = {"time": time, "event": event, "oracle": good, "slide_oracle": good}
        said = {
            "teacher": middling,
            "teacher-no-coordination": useless,
            "teacher-no-programs": good,
            "teacher-gated-pool": middling,
            "teacher-paper-fusion": None,
            "student": middling,
            "student-undistilled": useless,
        }
        for name, risk in said.items():
            results.setdefault(name, {})[seed] = _fit(risk)
    summary = summarise(results, truths)
    effects = {name: row["effect"] for name, row in summary["variants"].items()}
    assert effects["teacher-no-coordination"] == "contributes"
    assert effects["teacher-no-programs"] == "harms: better without"
    assert effects["teacher-gated-pool"] == "no difference shown"
    assert summary["variants"]["teacher-paper-fusion"]["not_finite"] == [0, 1]
    reached = {row["asked"].split(",")[0]: row["reached"] for row in figures(summary)}
    assert reached["teacher: the default is best or within noise of the best"] is False
    assert reached["student: the default is best or within noise of the best"] is True
    assert reached["teacher"] is False, "own 0.8, other's 0.2"
    assert reached["student above the undistilled student"] is True
    oracle, low, own = (
        summary["references"]["slide-oracle"]["value"],
        *(summary["variants"][name]["c_index"]["value"] for name in ("student-undistilled", "student")),
    )
    assert summary["distillation"]["share_closed"]["value"] == pytest.approx((own - low) / (oracle - low))
    settings = {"train": 1, "val": 1, "test": 80, "visibility": 0.8, "width": 1, "epochs": 1, "batch_size": 1}
    page = markdown({"command": "none", "settings": settings, **summary})
    assert "not finite (seed 0, 1)" in page
    assert "harms: better without" in page


def _fit(risk) -> dict:
    r2 = {s: {"own": 0.8, "other": 0.2} for s in ("tumor", "tme")}
    there = risk is not None
    measured = {"risk": risk, "partial_r2": r2, "partial_r2_shown": r2} if there else {}
    return {"finite": there, "seconds": 1.0, "best_epoch": 3, "code": "x", **measured}


def test_expected_risk_is_the_mean_over_what_the_factors_may_be():
    from known_factors import expected_log_hazard

    from dmml.simulate.truth import CORRELATION, log_hazard

    rng, visibility = np.random.default_rng(0), 0.5
    drawn = rng.standard_normal((400_000, 6)) @ np.linalg.cholesky(CORRELATION).T
    risk, shown = log_hazard(drawn), rng.standard_normal((4, 6))
    weight = np.exp(-((shown[:, None] - visibility * drawn) ** 2).sum(-1) / (2 * (1 - visibility**2)))
    expected = (weight * risk).sum(1) / weight.sum(1)
    found = expected_log_hazard(shown, visibility)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=0.05)


def test_lists_of_seeds_and_of_variants():
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

    from dmml.cli import PATIENCE

    assert Settings.patience == PATIENCE

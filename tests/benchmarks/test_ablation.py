"""The ablation's design, its verdicts, and its page, on results by hand."""

import numpy as np
import pytest


def test_every_network_differs_from_the_others_and_from_what_it_is_compared_with():
    from ablation_networks import ABLATED, VARIANTS, reference_of
    from ablation_variants import SCENES

    assert len({network.digest(ABLATED) for network in ABLATED.values()}) == len(ABLATED)
    for name, (family, variant) in VARIANTS.items():
        reference = ABLATED[reference_of(name)]
        assert ABLATED[name].class_path == reference.class_path
        assert variant.named, f"{name} could matter somewhere"
        assert set(variant.named) <= set(SCENES)
        own_teacher = f"{family}_{variant.taught_by}" if variant.taught_by else reference.teacher
        assert ABLATED[name].teacher in (None, own_teacher), "students of the whole teacher, of none, or as stated"


def test_the_digest_of_a_network_follows_its_definition_and_its_teachers():
    from dataclasses import replace

    from worlds_networks import Network

    networks = {"teacher": Network("SubspaceTeacher"), "student": Network("SubspaceStudent", teacher="teacher")}
    other_teacher = networks | {"teacher": Network("SubspaceTeacher", {"width": 64})}
    student = networks["student"]
    assert student.digest(networks) != student.digest(other_teacher)
    assert student.digest(networks) != replace(student, start=1).digest(networks)
    assert student.digest(networks) == replace(student).digest(networks)


def test_a_variant_runs_where_it_was_named_and_in_the_shared_world():
    from ablation import design
    from ablation_variants import OPPOSED, RARE, SCENES, SHARED, TISSUE

    plan = design(["deep_no_coordination", "deep_student_one_merged"], list(SCENES), [7])
    models = {(group.world, group.patients): names for group, names in plan.items()}
    assert models[SHARED][4:] == [
        "histology_abmil",
        "deep_teacher",
        "deep_student",
        "deep_no_coordination",
        "deep_student_one_merged",
    ]
    assert "deep_no_coordination" in models[OPPOSED]
    assert "deep_student" not in models[OPPOSED]
    assert "deep_teacher" in models[RARE], "the student's teacher"
    assert "deep_no_coordination" not in models[RARE]
    assert TISSUE not in models
    everywhere = design(["deep_no_coordination"], list(SCENES), [7, 8], everywhere=True)
    assert len(everywhere) == 2 * len(SCENES)


def test_a_family_without_a_deep_share_has_fewer_seeds_and_scenes():
    from ablation import design
    from ablation_variants import RARE, SCENES

    plan = design(["dmml_student_one_merged"], list(SCENES), [7, 8, 9])
    assert {group.seed for group in plan} == {7, 8}
    assert {(group.world, group.patients) for group in plan} == {RARE}, "it was named for many_tokens as well"


def test_an_unknown_part_is_found_at_any_depth():
    from worlds_networks import Network

    fusion = {"class_path": "dmml.nn.fusion.GatedPoolFusion"}
    assert Network("SubspaceTeacher", {"fusion": fusion}).unknown_arguments == []
    missing = {"class_path": "dmml.nn.fusion.NoSuchFusion"}
    assert Network("SubspaceTeacher", {"fusion": missing}).unknown_arguments == ["dmml.nn.fusion.NoSuchFusion"]
    argument = fusion | {"init_args": {"no_such": 1}}
    assert Network("SubspaceTeacher", {"fusion": argument}).unknown_arguments == ["GatedPoolFusion.no_such"]


# ---- verdicts ------------------------------------------------------------------------------------------------------


def comparison(low, high, p, named=False, world="shared", patients=200):
    value = (low + high) / 2
    place = {"world": world, "patients": patients, "named": named, "seeds": [1]}
    return place | {"estimate": value, "low": low, "high": high, "p": p, "by_seed": [value]}


def test_holm_counts_the_comparisons_named_in_advance_and_no_controls():
    from ablation_summary import adjust

    rows = {
        "a": {"kind": "removed", "comparisons": [comparison(0.1, 0.2, 0.01, True), comparison(0.1, 0.2, 0.001)]},
        "b": {"kind": "replaced", "comparisons": [comparison(0.1, 0.2, 0.04, True)]},
        "c": {"kind": "control", "comparisons": [comparison(0.1, 0.2, 0.0001, True)]},
    }
    adjust(rows)
    assert [each.get("p_holm") for row in rows.values() for each in row["comparisons"]] == [0.02, None, 0.04, None]


def test_the_verdict_follows_the_fixed_rule():
    from ablation_summary import verdict

    sure = comparison(0.01, 0.03, 0.001, True, "opposed") | {"p_holm": 0.01}
    unadjusted = comparison(0.01, 0.03, 0.001, True) | {"p_holm": 0.06}
    not_named = comparison(0.01, 0.03, 0.0001)
    below = comparison(-0.03, -0.01, 0.3, world="rare_tissue")
    few = comparison(-0.03, -0.01, 0.3, patients=100)
    assert verdict("removed", [sure, unadjusted]) == "contributes (opposed)"
    assert verdict("removed", [unadjusted, not_named]) == "no effect shown"
    assert verdict("removed", [sure, below, few]) == "contributes (opposed); harms (rare_tissue, shared 100)"
    assert verdict("replaced", [sure]) == "better (opposed)"
    assert verdict("replaced", [below]) == "worse (rare_tissue)"
    assert verdict("replaced", [not_named]) == "no difference shown"
    assert verdict("control", [sure, below, comparison(-0.01, 0.01, 1.0)]) == "2 of 3 intervals leave out 0"


# ---- page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def summary():
    """Summary of one scene: a part that helps, one that harms, and a control."""
    from ablation_summary import summarise
    from worlds_cells import Group

    results, truths = {}, {}
    r2 = {"true": {s: {"own": 0.8, "other": 0.2} for s in ("tumor", "tme")}}
    r2["shown"] = r2["true"]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        risk = rng.standard_normal(200)
        time, event = rng.exponential(np.exp(-2 * risk)), (rng.random(200) < 0.7).astype(float)
        truths[Group("shared", 200, seed)] = {
            name: values.tolist()
            for name, values in {"time": time, "event": event, **dict.fromkeys(_oracles(), risk)}.items()
        }
        risks = {
            "deep_teacher": risk + rng.standard_normal(200),
            "deep_no_programs": rng.standard_normal(200),
            "deep_no_decorrelation": risk,
        }
        risks["deep_again"] = risks["deep_teacher"]
        facts = {"gib": 0.5, "partial_r2": r2}
        results[Group("shared", 200, seed)] = {
            name: {"risk": values.tolist(), "seconds": 3.0, "code": "x", "facts": facts}
            for name, values in risks.items()
        }
    return summarise(results, truths)


def _oracles():
    from worlds_data import ORACLES

    return ORACLES


def test_the_summary_compares_every_part_with_the_reference(summary):
    from ablation_networks import DEEP

    rows = summary["families"][DEEP]
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        "deep_again": "0 of 1 intervals leave out 0",
        "deep_no_programs": "contributes (shared)",
        "deep_no_decorrelation": "harms (shared)",
    }
    models = summary["scenes"][0]["models"]
    for name in ("deep_no_programs", "deep_no_decorrelation"):
        (compared,) = rows[name]["comparisons"]
        assert compared["estimate"] == pytest.approx(models["deep_teacher"]["value"] - models[name]["value"])
        assert np.mean(compared["by_seed"]) == pytest.approx(compared["estimate"])


def test_the_page_and_the_picture_show_the_parts(summary, tmp_path):
    from ablation_page import markdown
    from ablation_picture import draw

    r2 = {which: {s: {"own": 0.6, "other": 0.0} for s in ("tumor", "tme")} for which in ("true", "shown")}
    ceilings = {"shared 200": {"shown": r2, "taught": r2}}
    page = markdown({"command": "none", "setup": {"test": 200, "max_epochs": 50}, "ceilings": ceilings, **summary})
    (row,) = [line for line in page.splitlines() if line.startswith("| teacher: programs predicted")]
    value = summary["families"]["deep"]["deep_no_programs"]["comparisons"][0]["estimate"]
    assert f"| **{value:+.3f}**†\\* | contributes (shared) | 3, 3 |" in row
    assert "no model: the factors as the slide shows them | 0.60" in page
    assert "3 s, 0.50" in page
    draw(summary, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    draw({"families": {}}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("family", ["deep", "dmml"])
def test_all_parts_are_compared_with_what_dmml_does_by_default(family):
    from ablation_networks import ABLATED
    from ablation_variants import ALL_PARTS, STUDENT, TEACHER

    from dmml.training.student import SubspaceStudent
    from dmml.training.teacher import SubspaceTeacher

    for of, kind in {TEACHER: SubspaceTeacher, STUDENT: SubspaceStudent}.items():
        reference = ABLATED[f"{family}_{of}"]
        network = ABLATED[f"{family}_defaults" if of == TEACHER else f"{family}_student_defaults"]
        assert network.coordination is None
        assert reference.coordination is not None
        defaults = kind().hparams
        for argument, value in ALL_PARTS[of].items():
            assert network.init_args[argument] == defaults[argument]
            assert reference.init_args[argument] == value != defaults[argument]
    assert ABLATED[f"{family}_student_defaults"].teacher == f"{family}_defaults"

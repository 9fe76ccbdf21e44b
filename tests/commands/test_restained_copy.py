"""From slides to `shift.json`: a cohort that was stained elsewhere differs from training, one of the same laboratory does not."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from drawn_slides import write_slide

from dmml.__main__ import main
from dmml.simulate.slides.render import render_factors
from dmml.simulate.slides.stain import STAINS

pytestmark = pytest.mark.slow

HERE, ELSEWHERE = STAINS["Aspen"], STAINS["Hazel"]
DEVELOPMENT, TESTED = 26, 10
QUARTER, MARGIN = 560, 224
"""Pixels of a side, and of glass left aside at the rim of a whole slide."""
FILES = {"clinical": "clinical.csv", "features": "features.zarr"}
OUTCOME = {"time": "os_days", "event": "os_event", "unit": "days"}


def dyes(site):
    """(2, 3) optical density of haematoxylin and eosin, as a site's scanner records it."""
    return site.gamma * np.array([site.hematoxylin, site.eosin])


def stained(picture, site, strength):
    """A picture that was stained here, its two dyes replaced by another laboratory's; what is neither stays.

    Args:
        picture: (rows, columns, 3) uint8.
        site: The laboratory.
        strength: (2,) of haematoxylin and eosin against the usual.
    """
    density = -np.log((picture + 1.0) / (np.array(HERE.white) + 1.0))
    amounts = density @ np.linalg.pinv(dyes(HERE))
    moved = density + (amounts * strength) @ dyes(site) - amounts @ dyes(HERE)
    return (np.array(site.white) * np.exp(-moved)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Quarters of rendered slides, one per patient and no two stained equally strongly, and a copy of the tested ones."""
    root = tmp_path_factory.mktemp("stains")
    rng = np.random.default_rng(0)
    quarters = []
    for _ in range((DEVELOPMENT + TESTED) // 4):
        whole, _ = render_factors(rng.normal(size=6), "Aspen", rng)
        corners = [(y, x) for y in (MARGIN, MARGIN + QUARTER) for x in (MARGIN, MARGIN + QUARTER)]
        quarters += [whole[y : y + QUARTER, x : x + QUARTER] for y, x in corners]
    order = rng.permutation(len(quarters))
    strength = np.exp(rng.normal(0, 0.1, (len(quarters), 2)))
    parts = {"development": order[:DEVELOPMENT], "same": order[DEVELOPMENT:], "copy": order[DEVELOPMENT:]}
    for name, members in parts.items():
        folder = root / name
        (folder / "slides").mkdir(parents=True)
        site = ELSEWHERE if name == "copy" else HERE
        for i in members:
            write_slide(folder / "slides" / f"S{i}.tif", stained(quarters[i], site, strength[i]), levels=(1, 2, 4))
        table = {"patient_id": [f"P{i}" for i in members], "slide_id": [f"S{i}" for i in members]}
        table |= {"os_days": rng.integers(100, 3000, len(members)), "os_event": (members % 3 > 0).astype(int)}
        pd.DataFrame(table).to_csv(folder / "clinical.csv", index=False)
        argv = ["extract", str(folder / "slides"), "--out", str(folder / "features.zarr"), "--magnifications", "10"]
        assert main(argv) == 0
    return root


@pytest.fixture(scope="module")
def shifts(cohorts):
    """`shift.json` of the tested patients and of their restained copy."""

    def config(name, **sections):
        files = {key: str(cohorts / name / file) for key, file in FILES.items()}
        data = files | {"name": name, "outcome": OUTCOME, "magnifications": [10]}
        path = cohorts / f"{name}.yaml"
        data = {"data": {"class_path": "MultimodalDataModule", "init_args": data}}
        path.write_text(yaml.safe_dump(data | sections))
        return ["--config", str(path)]

    task = {"class_path": "Survival", "init_args": {"n_intervals": 2}}
    model = {"class_path": "SubspaceStudent", "init_args": {"width": 16, "magnifications": [10], "task": task}}
    trainer = {"default_root_dir": str(cohorts / "run"), "max_epochs": 1, "enable_progress_bar": False}
    assert main(["fit", *config("development", model=model, trainer=trainer)]) == 0
    best = str(cohorts / "run" / "checkpoints" / "best.ckpt")
    for name in ("same", "copy"):
        assert main(["test", "--ckpt_path", best, *config(name)]) == 0
    return [json.loads((cohorts / "run" / "test" / name / "shift.json").read_text()) for name in ("same", "copy")]


def test_a_stain_of_another_laboratory_is_reported_and_that_of_the_same_one_is_not(shifts):
    same, copy = (shift["stain"] for shift in shifts)
    assert same["n"] == copy["n"] == TESTED
    assert same["n_training"] == copy["n_training"] >= 20
    assert same["p"] > 0.1
    assert copy["p"] <= 0.005
    assert copy["auc"] > 0.9 > 0.7 > same["auc"]
    assert copy["share_shifted"] == 1 > same["share_shifted"]
    assert shifts[0]["features"]["10x"]["p"] > 0.1  # nor is their tissue any other
    words = [next(word for word in shift["words"] if word.startswith("Stain: ")) for shift in shifts]
    assert "no shift is detected" in words[0]
    assert "the shift is clear" in words[1]


def test_the_dye_with_the_largest_shift_is_named(shifts):
    """The other laboratory's eosin is a sixth weaker and leans to orange."""
    largest = shifts[1]["stain"]["largest"]
    assert largest[0]["name"] == "eosin, mean"
    assert largest[0]["shift"] < -1
    assert max(abs(row["shift"]) for row in shifts[0]["stain"]["largest"]) < 0.8

"""A test's report shows what each tile adds, of teacher and student, and attention only where the deep part counts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from html_page import Page

from dmml.__main__ import main
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "share"), [("student", 0.0), ("teacher", 0.5)])
def test_the_report_shows_what_each_tile_contributes(journey, tmp_path, name, share):
    run = tmp_path / name
    shutil.copytree(journey.run(name), run)
    shutil.rmtree(run / "test", ignore_errors=True)
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["deep_share"].fill_(share)
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    config = journey.config(f"tile_maps_{name}", cohort="held_out")
    assert main(["test", "--config", str(config), "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]) == 0
    folder = run / "test" / "held_out"
    context = json.loads((folder / "context.json").read_text())
    assert context["deep_share"] == share
    with np.load(folder / "attention.npz") as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays["meta"]))
    assert meta
    store = FeatureStore(journey.root / "held_out" / "features.zarr")
    for fact in meta:  # by this, the viewer recognises the slide's file
        attributes = store.slide_attributes(fact["slide_id"])
        assert fact["file"].items() <= attributes.items()
        assert fact["file"]["source"] == attributes["source"]
    for i in range(len(meta)):
        for m in (10, 20):
            assert arrays[f"contribution_{i}_{m}"].shape == (len(arrays[f"position_{i}_{m}"]),)
    if not share:  # the backbone alone: its tiles hold all that tells two patients of the cohort apart
        added = [sum(arrays[f"contribution_{i}_{m}"].sum() for m in (10, 20)) for i in range(len(meta))]
        assert np.argsort(added).tolist() == np.argsort([fact["risk"] for fact in meta]).tolist()
    page = Page((folder / "report.html").read_text())
    text = page.text.replace("\u00a0", " ")
    assert "What each tile contributes" in text
    assert "tissue-specific part, which belongs to neither subspace" in text
    assert ("They come from the backbone alone" in text) == (not share)
    assert ("plus 50 % of what the deep part adds" in text) == bool(share)
    names = {path.name for path in (folder / "plots").glob("*.png")}
    assert {"contribution_0_10x.png", "contribution_0_20x.png"} <= names
    assert ("attention_0_10x_tumor.png" in names) == bool(share)

"""From raw slides to answers, as a user types it."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from html_page import Page
from PIL import Image

from dmml.__main__ import main
from dmml.data.collate import Collate
from dmml.data.dataset import Patient
from dmml.experiment.load_model import load_model
from dmml.experiment.predict_slide.answer import read_answer
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow


def predict(*argv) -> int:
    return main(["predict-slide", *[str(word) for word in argv]])


def record(folder) -> dict:
    return json.loads((folder / "prediction.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def map_names(answer: dict, slide: str = "") -> set[str]:
    """Names of the maps that an answer must have: what tiles add, and attention where the deep part counts."""
    names = {f"contribution{slide}_{m}x" for m in (10, 20)}
    names |= {f"contribution{slide}_{part}" for part, value in answer["backbone"]["tiles"].items() if value}
    if answer["backbone"]["deep_share"]:
        names |= {f"overlay{slide}_{m}x_{s}" for m in (10, 20) for s in ("tumor", "tme")}
    return names


def sheet_names(answer: dict) -> set[str]:
    """Names of the sheets of tiles: one for each subspace to which tiles add anything."""
    return {f"tiles_{part}" for part, value in answer["backbone"]["tiles"].items() if value and "tissue" not in part}


def with_deep_share(models, path, share: float) -> str:
    """The student's checkpoint with another share of the deep part."""
    checkpoint = torch.load(models.best("student"), weights_only=True)
    checkpoint["state_dict"]["deep_share"].fill_(share)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_attention_is_shown_only_where_the_deep_part_counts(models, tmp_path, share):
    checkpoint = with_deep_share(models, tmp_path / "changed.ckpt", share)
    assert predict(models.svs, "--ckpt_path", checkpoint, "--out", tmp_path / "o") == 0
    folder = tmp_path / "o" / "cmu_small_region"
    answer, page = record(folder), Page((folder / "report.html").read_text())
    assert answer["backbone"]["deep_share"] == share
    assert bool(list(folder.glob("overlay_*.png"))) == bool(share)
    assert ("Where each subspace looks" in page.text) == bool(share)
    assert "What each tile contributes" in page.text
    assert ("The backbone alone determines this answer" in page.text) == (not share)
    assert ("50 % of what the deep part has learned" in page.text.replace("\u00a0", " ")) == bool(share)
    assert ("deep part, not divided among tiles" in page.text) == bool(share)
    sums = answer["backbone"]
    for part in ("tumor", "tme", "tissue"):
        whole = np.mean([np.mean(answer["subspaces"]["logits"][f"{m}x_{part}"]) for m in (10, 20)])
        tiles = sum(sums["tiles"].get(f"{m}x_{part}", 0.0) for m in (10, 20))
        assert tiles + sums["undivided"][part] + sums["constant"][part] == pytest.approx(whole, abs=1e-4)
        if not share:
            assert sums["undivided"][part] == pytest.approx(0, abs=1e-4)


def test_the_answer_is_that_of_extract_and_predict(models, whole_slide, through_a_cohort):
    row = through_a_cohort("student", {models.svs: "P1"}, "0.5")
    answer = whole_slide.record
    for name, value in answer["prediction"].items():
        assert row[name] == pytest.approx(value, abs=1e-5)
    assert set(answer["prediction"]) == {n for n in row.index if n == "risk" or n.startswith("survival_")}
    assert answer["slides"][0]["tiles"] == {"10": row["n_tokens_10x"], "20": row["n_tokens_20x"]}
    assert answer["slides"][0]["mpp"] == pytest.approx(0.499)
    assert answer["slides"][0]["mpp_source"] == "openslide.mpp-x"


def test_two_slides_of_one_patient_are_one_bag(models, through_a_cohort, tmp_path):
    twin = tmp_path / "twin.jpg"
    Image.open(models.plain).transpose(Image.Transpose.ROTATE_180).save(twin, quality=95)
    argv = (models.plain, twin, "--mpp", 0.5, "--ckpt_path", models.best("grade"), "--out", tmp_path / "o")
    assert predict(*argv, "--one-patient") == 0
    answer = record(tmp_path / "o" / "histo_500x300")
    row = through_a_cohort("grade", {models.plain: "P1", str(twin): "P1"}, "0.5")
    for name in ("prob_G2", "prob_G3", "prob_G4"):
        assert answer["prediction"][name] == pytest.approx(row[name], abs=1e-5)
    assert answer["headline"]["class"] == max(("G2", "G3", "G4"), key=lambda name: row[f"prob_{name}"])
    names = {path.name for path in (tmp_path / "o" / "histo_500x300").iterdir()}
    maps = {f"{kind}.png" for slide in ("histo_500x300", "twin") for kind in map_names(answer, f"_{slide}")}
    sheets = {f"{name}.png" for name in sheet_names(answer)}
    shapes = {"tiles_histo_500x300.geojson", "tiles_twin.geojson"}
    thumbnails = {"thumbnail_histo_500x300.jpg", "thumbnail_twin.jpg"}
    assert names == maps | sheets | shapes | thumbnails | {"classes.png", "prediction.json", "report.html"}


def test_the_folder_of_an_answer_is_complete(models, whole_slide):
    answer, folder = whole_slide.record, whole_slide.folder
    maps = {f"{name}.png" for name in map_names(answer)}
    sheets = {f"{name}.png" for name in sheet_names(answer)}
    others = {"survival.png", "thumbnail.jpg", "prediction.json", "report.html", "tiles.geojson"}
    assert {path.name for path in folder.iterdir()} == maps | sheets | others
    assert all(max(Image.open(folder / name).size) >= 512 for name in maps)
    median = torch.load(models.best("student"), weights_only=True)["hyper_parameters"]["fitted"]["median_risk"]
    above = answer["prediction"]["risk"] > median
    assert answer["training_patients"] == {"median_risk": median, "risk_is": "above" if above else "below"}
    views = [view["survival_1095"] for view in answer["how_sure"]["by_magnification"].values()]
    assert answer["headline"] == {
        "column": "survival_1095",
        "day": 1095,
        "value": answer["prediction"]["survival_1095"],
    }
    if answer["backbone"]["deep_share"]:
        assert answer["how_sure"]["spread_between_magnifications"] == pytest.approx(abs(views[0] - views[1]))
    else:  # the backbone reads both together
        assert answer["how_sure"]["spread_between_magnifications"] is None
        assert views[0] == pytest.approx(views[1])
    assert min(views) - 1e-6 <= answer["headline"]["value"] <= max(views) + 1e-6
    names = load_model(models.best("student")).module.scores.names
    for s in ("tumor", "tme"):
        programs = answer["programs"][s]
        assert set(programs["all"]) == set(names[s])
        low, high = sorted(programs["all"].values())[:5], sorted(programs["all"].values())[-5:]
        assert sorted(programs["lowest"].values()) == low
        assert sorted(programs["highest"].values()) == high
    assert answer["encoder"]["name"] == "tf_efficientnet_lite0"
    assert answer["model"]["run"] == "student"
    assert not answer["notes"] or "RNA" not in " ".join(answer["notes"])


def test_tiles_have_the_size_of_those_that_the_model_was_trained_on(models, tmp_path):
    fitted = torch.load(models.best("student"), weights_only=True)["hyper_parameters"]["fitted"]
    assert fitted["tile_px"] == 224
    checkpoint = models.changed("student", tmp_path / "large.ckpt", fitted={**fitted, "tile_px": 256})
    out = tmp_path / "out"
    argv = [models.plain, "--mpp", "0.6", "--ckpt_path", checkpoint, "--out", out, "--explain", "none"]
    assert predict(*argv) == 0
    answer = json.loads((out / "histo_500x300" / "prediction.json").read_text())
    assert answer["tile_px"] == 256
    [slide] = answer["slides"]
    assert (slide["tile_um"], slide["tiles"]) == ({"10": 256.0, "20": 128.0}, {"10": 1, "20": 2})
    shapes = json.loads((out / "histo_500x300" / "tiles.geojson").read_text())["features"]
    sides = sorted(np.ptp(shape["geometry"]["coordinates"][0], axis=0).tolist() for shape in shapes)
    assert sides == [pytest.approx([um / 0.6] * 2, abs=0.02) for um in (128, 128, 256)]


def test_the_page_needs_no_other_file_and_states_its_use(whole_slide):
    page = (whole_slide.folder / "report.html").read_text()
    assert whole_slide.record["answer"][0] in page
    assert "research use only" in page
    assert "not a diagnosis" in page
    # Every map, the sheets of tiles, and the slide itself above what its tiles add.
    pictures = len(map_names(whole_slide.record)) + len(sheet_names(whole_slide.record))
    assert page.count('src="data:image/jpeg;base64,') == pictures + 1
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"|url\((?!#)([^)]*)\)|(https?://(?!www\.w3\.org)\S+)', page)
    assert outside == []


def test_each_slide_is_a_patient_and_the_answer_is_printed(models, tmp_path, capsys):
    twin = tmp_path / "twin.jpg"
    shutil.copy(models.plain, twin)
    assert (
        predict(models.plain, twin, "--mpp", 0.5, "--ckpt_path", models.best("teacher"), "--out", tmp_path / "o") == 0
    )
    printed = capsys.readouterr().out.splitlines()
    warnings = [line for line in printed if line.startswith("  warning: The slide")]
    lines = [line for line in printed if line not in warnings][-6:]  # before them, an encoder may be exported
    assert lines[0].startswith("histo_500x300: ")
    assert re.match(r"twin: (Above|Below) the median risk of the \d+ training patients of development", lines[3])
    assert re.search(
        r"\d+ % chance of being event-free after 3 years(?: \(10x: .*\))?; 1 tiles? at 10x \+ 2 tiles at 20x", lines[4]
    )
    assert lines[5] == str(tmp_path / "o" / "twin" / "report.html")
    first, second = record(tmp_path / "o" / "histo_500x300"), record(tmp_path / "o" / "twin")
    assert first["prediction"] == second["prediction"]
    assert any("was given none" in note for note in first["notes"])  # a teacher without RNA says so
    assert any("given by hand" in note for note in first["notes"])
    assert len(warnings) == 2 * len(first["limits"]["warnings"])
    assert [any(text in line for line in warnings) for text in ("little tissue", "unlike")] == [True, True]


def test_the_answer_without_a_subspace_is_that_of_a_zero_embedding(models):
    model = load_model(models.best("student")).module
    store = FeatureStore(models.root / "held_out" / "features.zarr")
    slide = store.slides()[0]
    bags = {m: store.read(slide, m) for m in (10, 20)}
    patient = Patient(
        "P1",
        {m: bag.features for m, bag in bags.items()},
        {m: bag.position for m, bag in bags.items()},
        {m: np.zeros(len(bag.features), dtype=np.int64) for m, bag in bags.items()},
        bags[20].parent.astype(np.int64),
    )
    batch = Collate((10, 20), ["P1"], {}, torch.zeros(1, dtype=torch.bool), {})([patient])
    answer, output = read_answer(model, batch)
    share, (bias, _) = float(model.deep_share), model.backbone.calibration(torch.zeros(1, dtype=torch.bool))
    base = model.backbone(batch.bags, {}, torch.zeros(1, dtype=torch.bool))
    for s, other in (("tumor", "tme"), ("tme", "tumor")):
        logits = []
        for m in (10, 20):
            kept = output.embeddings[m, other]
            parts = model.heads[f"{m}x"]({s: torch.zeros_like(kept), other: kept})
            deep = share * (parts["tumor"] + parts["tme"])
            logits.append(deep + base.subspaces[other] + bias / 2 + output.tissue_logits[m])
            alone = model.task.predictions(logits[-1])["risk"].item()
            assert answer.without_by_magnification[m, s]["risk"] == pytest.approx(alone, abs=1e-5)
        together = model.task.combine(torch.stack(logits), torch.ones(2, 1, dtype=torch.bool))
        assert answer.without[s]["risk"] == pytest.approx(model.task.predictions(together)["risk"].item(), abs=1e-5)
        assert answer.without[s]["risk"] != pytest.approx(answer.prediction["risk"], abs=1e-4)


def test_markup_in_a_slides_name_is_displayed_and_not_run(models, tmp_path):
    name = "$x^$<img src=x onerror=alert(1)>&"
    shutil.copy(models.plain, tmp_path / f"{name}.jpg")
    argv = (tmp_path / f"{name}.jpg", "--mpp", 0.5, "--ckpt_path", models.best("student"), "--out", tmp_path / "o")
    assert predict(*argv) == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {name, "answers.csv", "index.html"}
    Page((tmp_path / "o" / "index.html").read_text())
    page = Page((tmp_path / "o" / name / "report.html").read_text())  # an element or handler of theirs is met here
    assert name in page.text
    assert all(link.startswith(("#", "data:image/")) for link in page.links)


def test_the_other_slides_are_predicted_if_one_is_unusable(models, tmp_path, capsys):
    Image.new("RGB", (700, 700), "white").save(tmp_path / "glass.png")
    argv = (
        tmp_path / "glass.png",
        models.plain,
        "--mpp",
        0.5,
        "--ckpt_path",
        models.best("grade"),
        "--out",
        tmp_path / "o",
    )
    assert predict(*argv) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "glass.png" in message
    assert "the other 1 of 2" in message
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"histo_500x300", "answers.csv", "index.html"}


def test_an_answer_is_replaced_only_with_overwrite(models, tmp_path, capsys):
    argv = (models.plain, "--mpp", 0.5, "--ckpt_path", models.best("grade"), "--out", tmp_path / "o")
    assert predict(*argv) == 0
    folder = tmp_path / "o" / "histo_500x300"
    (folder / "prediction.json").write_text("{}")
    assert predict(*argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "prediction.json").read_text() == "{}"
    assert predict(*argv, "--overwrite") == 0
    assert record(folder)["task"] == "classification"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert predict(*argv, "--overwrite") == 2
    assert "contains no prediction" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "mine"


def test_no_incomplete_answer_remains(models, tmp_path, monkeypatch):
    import dmml.experiment.predict_slide.page as slide_page

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(slide_page, "write_page", fail)
    argv = (models.plain, "--mpp", 0.5, "--ckpt_path", models.best("grade"), "--out", tmp_path / "o")
    with pytest.raises(OSError, match="no space"):
        predict(*argv)
    assert list((tmp_path / "o").iterdir()) == []

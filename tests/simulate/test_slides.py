"""Rendered slides: read back by OpenSlide, of the right size and colours, and following the factors."""

import argparse

import numpy as np
import openslide
import pandas as pd
import pytest
from PIL import Image

from dmml.cohort.rna.expression import build_expression
from dmml.cohort.rna.genes.gene_names import current_symbol
from dmml.commands.simulate import add_arguments, run
from dmml.simulate.expression import draw_counts, gene_model, tpm
from dmml.simulate.slides import render, slide_file
from dmml.simulate.slides.render import render_factors
from dmml.simulate.slides.stain import STAINS, stained_image
from dmml.simulate.slides.tissue_map import draw_tissue_map
from dmml.simulate.slides.tissue_types import LYMPHOID, NORMAL, STROMA, TISSUE_NAMES, TUMOR
from dmml.simulate.truth import FACTOR_NAMES, SITES, draw_patients
from dmml.slides.label_folder import read_label_folder


def simulate(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(argument) for argument in arguments]))


def factors(**values):
    return np.array([values.get(name, 0.0) for name in FACTOR_NAMES])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("slides") / "study"
    simulate(out, "--patients", 1, "--held-out", 1)
    return out


def test_a_cohort_has_slides_rna_and_truth(study):
    for cohort in SITES:
        clinical = pd.read_csv(study / cohort / "clinical.csv")
        assert {p.stem for p in (study / cohort / "slides").glob("*.tif")} == set(clinical["slide_id"])
        assert {p.stem for p in (study / cohort / "rna").glob("*.tsv")} <= set(clinical["patient_id"])
        assert {p.stem for p in (study / cohort / "truth").glob("*.png")} == set(clinical["slide_id"])
        assert not list(study.rglob(".*"))


def test_tiles_can_be_labelled_with_the_truth(study):
    """The tiles of the truth's tumor look like it: they hold more hematoxylin, so less red light passes."""
    for cohort in SITES:
        truth = read_label_folder(study / cohort / "truth")
        assert tuple(truth.names.values()) == TISSUE_NAMES
        slide_id = pd.read_csv(study / cohort / "clinical.csv")["slide_id"][0]
        labels = truth.image(slide_id)
        with openslide.OpenSlide(study / cohort / "slides" / f"{slide_id}.tif") as slide:
            side = round(float(slide.properties["openslide.mpp-x"]) * slide.dimensions[0] / truth.um_per_pixel)
            assert labels.shape == (side, side)
            scale = slide.dimensions[0] // side
            image = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"), float)
        red = image[..., 0].reshape(side, scale, side, scale).mean(axis=(1, 3))
        assert red[labels == TUMOR].mean() < red[labels == STROMA].mean() - 5
        edge = np.array([[56.0, 56.0]])
        assert truth.regions(slide_id, edge, 112.0) == ["glass"]
        rows, columns = np.nonzero(labels == TUMOR)
        centre = np.array([[columns[0] + 0.5, rows[0] + 0.5]]) * truth.um_per_pixel
        assert truth.regions(slide_id, centre, truth.um_per_pixel) == ["tumor"]


def test_the_rna_files_hold_the_counts_that_were_drawn(study):
    """Through the reader that users' own STAR-counts go through."""
    expression = build_expression([study / "held_out" / "rna"])
    patient = draw_patients("held_out", 1, seed=0)[0]
    drawn = pd.Series(tpm(draw_counts(patient)), index=[current_symbol(name) for name in gene_model().symbols])
    drawn = drawn.groupby(level=0).sum()  # two of the symbols are one gene by now
    assert expression.scale == "tpm"
    assert list(expression.table.index) == [patient.patient_id]
    read = expression.table.loc[patient.patient_id].sort_index()
    assert list(read.index) == list(drawn.index)
    np.testing.assert_allclose(read, drawn, rtol=1e-4, atol=1e-4)


def test_openslide_reads_scale_and_levels(study):
    path = next((study / "held_out" / "slides").glob("*.tif"))
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5)
        assert slide.level_dimensions == ((1568, 1568), (784, 784), (392, 392))
        assert slide.level_downsamples == pytest.approx((1, 2, 4))
        small = np.asarray(slide.read_region((0, 0), 2, (392, 392)).convert("RGB"), dtype=float)
        whole = np.asarray(slide.read_region((0, 0), 0, (1568, 1568)).convert("RGB"), dtype=float)
    assert np.abs(whole.reshape(392, 4, 392, 4, 3).mean(axis=(1, 3)) - small).mean() < 4.0


def test_labels_lie_on_the_tissue(study):
    for path in (study / "development" / "slides").glob("*.tif"):
        with openslide.OpenSlide(path) as slide:
            picture = np.asarray(slide.read_region((0, 0), 2, (392, 392)).convert("RGB"), dtype=float)
        labels = np.asarray(Image.open(study / "development" / "truth" / f"{path.stem}.png"))
        labels = np.repeat(np.repeat(labels, 2, axis=0), 2, axis=1)
        darkness = 245 - picture.mean(axis=-1)
        assert darkness[labels == LYMPHOID].mean() > darkness[labels == STROMA].mean() + 10
        assert darkness[labels == TUMOR].mean() > darkness[labels == 0].mean() + 20
        saturation = picture.max(axis=-1) - picture.min(axis=-1)
        assert (saturation[labels > 0] > 20).mean() > 0.75
        assert np.median(saturation[labels == 0]) < 10


@pytest.mark.slow
def test_an_existing_slide_is_not_rendered_again(study, tmp_path, monkeypatch):
    """Killed between two slides, the rerun renders only what is missing."""
    rendered = []

    def count(*arguments):
        rendered.append(arguments[0].patient_id)
        if len(rendered) == 2:
            raise KeyboardInterrupt
        return render.render_slide(*arguments)

    monkeypatch.setattr(slide_file, "render_slide", count)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", "--patients", 1, "--held-out", 1)
    assert not list((tmp_path / "out" / "held_out").rglob("*.tif"))
    rendered.clear()
    simulate(tmp_path / "out", "--patients", 1, "--held-out", 1)
    assert rendered == ["SIM0-H0001"]
    for path in (tmp_path / "out").rglob("*.tif"):  # and the same patient gives the same bytes in another study
        assert path.read_bytes() == (study / path.relative_to(tmp_path / "out")).read_bytes()


def test_slides_have_few_tissue_tiles():
    """At most 35 tiles of both magnifications, counted on the labels by the rule of the grid."""
    for seed in range(20):
        labels = draw_tissue_map(factors(), np.random.default_rng(seed)).coarse_labels
        tissue = np.repeat(np.repeat(labels > 0, 8, axis=0), 8, axis=1)
        fine = [
            (row, column)
            for row in range(7)
            for column in range(7)
            if tissue[224 * row : 224 * row + 224, 224 * column : 224 * column + 224].mean() >= 0.25
        ]
        coarse = {(row // 2, column // 2) for row, column in fine}
        assert len(fine) >= 16
        assert len(fine) + len(coarse) <= 35
        assert {TUMOR, STROMA, NORMAL, LYMPHOID} <= set(np.unique(labels))


@pytest.fixture(scope="module")
def average_slide():
    return render_factors(factors(), "Aspen", np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "value", "measure"),
    [
        ("lymphocytes", 2.0, "dark"),
        ("vessels", 2.0, "red"),
        ("architecture", -2.0, "white"),
        ("fibrosis", 2.0, "pink"),
        ("proliferation", 2.0, "purple"),
    ],
)
def test_slides_show_the_factors(average_slide, factor, value, measure):
    """Against an average slide of the same tissue, what the factor stands for must be more."""
    amounts = []
    for picture, labels in (
        average_slide,
        render_factors(factors(**{factor: value}), "Aspen", np.random.default_rng(0)),
    ):
        r, g, b = (picture[..., k].astype(float) for k in range(3))
        large = np.repeat(np.repeat(labels, 8, axis=0), 8, axis=1)
        amounts.append(
            {
                "dark": ((r < 110) & (g < 110))[large > 0].mean(),
                "red": ((r > 180) & (g < 130) & (b < r - 80))[large > 0].mean(),
                "white": ((r > 225) & (g > 225))[large == TUMOR].mean(),
                "pink": -g[large == STROMA].mean() / 255,
                "purple": (r < 170)[large == TUMOR].mean(),
            }[measure]
        )
    assert amounts[1] > amounts[0] + 0.01, amounts


def test_pleomorphism_spreads_the_size_of_nuclei():
    from dmml.simulate.slides import cells

    def spread(value):
        rng = np.random.default_rng(0)
        mask = np.ones((600, 600), dtype=bool)
        stain_maps = argparse.Namespace(epithelium=mask, gland=np.full(mask.shape, -200.0, dtype=np.float32))
        patient_factors = dict(zip(FACTOR_NAMES, factors(pleomorphism=value), strict=True))
        resting, _ = cells._tumor_cells(stain_maps, patient_factors, rng)
        return np.log(resting.radius).std(), np.median(resting.radius), np.median(resting.irregularity)

    low, high = spread(-1.5), spread(1.5)
    assert all(more > 1.2 * less for less, more in zip(low, high, strict=True))


def test_light_follows_the_beer_lambert_law():
    """Without blur, the logarithm of the light is linear in the amount of dye."""
    from dataclasses import replace

    site = replace(STAINS["Aspen"], blur=1e-6)
    empty = np.zeros((8, 8), dtype=np.float32)

    def density(amount):
        picture = stained_image(empty + np.float32(amount), empty, empty, site, np.random.default_rng(0))
        return -np.log(picture[4, 4] / np.array(site.white))

    np.testing.assert_allclose(density(1.2), 3 * density(0.4), rtol=1e-4)
    assert density(1.0)[0] > density(1.0)[2]


def test_every_site_has_a_stain_and_held_out_stains_differ():
    assert set(STAINS) == {site for sites in SITES.values() for site in sites}

    def colour(site):
        ones = np.full((4, 4), 0.6, dtype=np.float32)
        return stained_image(ones, ones, 0 * ones, STAINS[site], np.random.default_rng(0))[2, 2]

    development = np.stack([colour(site) for site in SITES["development"]])
    radius = np.linalg.norm(development - development.mean(0), axis=1).mean()
    held_out = [np.linalg.norm(colour(site) - development.mean(0)) for site in SITES["held_out"]]
    assert np.mean(held_out) > 1.3 * radius

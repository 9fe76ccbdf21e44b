"""Stains of pictures whose stains are known, the colours after normalisation, and what is refused."""

import math
from importlib import metadata

import numpy as np
import pytest
from PIL import Image
from stained_pictures import EOSIN, HEMATOXYLIN, concentrations, stain

from dmml.errors import InputError
from dmml.slides.stains.choose import stain_normalization
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.stains.fit_stains import StainsNotFitted, built_in_target, fit_stains
from dmml.slides.stains.stains import METHODS, StainNormalization, Stains

SLIDE = Stains.from_plain({"hematoxylin": HEMATOXYLIN, "eosin": EOSIN, "strength": [1.5, 1.2]})


@pytest.fixture(scope="module")
def pixels():
    return stain(concentrations(np.random.default_rng(0), 6000))


def slow_colour(pixel, slide: Stains, target: Stains) -> list[float]:
    """Least squares by the normal equations, one pixel, in plain arithmetic; (3,) before rounding."""
    density = [-math.log((int(value) + 1) / 240) for value in pixel]
    h, e = slide.hematoxylin, slide.eosin
    hh, he, ee = (sum(a * b for a, b in zip(u, v, strict=True)) for u, v in ((h, h), (h, e), (e, e)))
    hd, ed = (sum(a * b for a, b in zip(u, density, strict=True)) for u in (h, e))
    of_h, of_e = (ee * hd - he * ed) / (hh * ee - he**2), (hh * ed - he * hd) / (hh * ee - he**2)
    of_h *= target.strength[0] / slide.strength[0]
    of_e *= target.strength[1] / slide.strength[1]
    return [240 * math.exp(-(of_h * a + of_e * b)) for a, b in zip(target.hematoxylin, target.eosin, strict=True)]


def test_the_colours_are_those_of_plain_arithmetic_pixel_by_pixel():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, size=(5, 40, 3), dtype=np.uint8)
    picture[0, :3] = [[0, 0, 0], [255, 255, 255], [239, 239, 239]]
    target = built_in_target()
    mapped = ColourMap(SLIDE, target)(picture)
    for pixel, result in zip(picture.reshape(-1, 3), mapped.reshape(-1, 3), strict=True):
        for value, exact in zip(result, slow_colour(pixel, SLIDE, target), strict=True):
            assert abs(int(value) - min(exact, 255.0)) <= 0.501
    assert mapped[0, 2].tolist() == [240, 240, 240]  # what absorbs no light remains so
    assert (ColourMap(SLIDE, target)(picture[2:3, 7:9]) == mapped[2:3, 7:9]).all()  # other pixels change nothing


def test_a_picture_gets_the_colours_that_torchstain_gives_it(pixels):
    """torchstain fits and applies in one call: the same colours, though it cuts off where the map rounds."""
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

    picture = pixels[(pixels < 200).all(axis=1)][:4000].reshape(40, 100, 3)
    expected, _, _ = NumpyMacenkoNormalizer().normalize(picture, stains=False)
    mapped = ColourMap(fit_stains("macenko", picture.reshape(-1, 3)), built_in_target())(picture)
    assert np.abs(mapped.astype(int) - expected).max() <= 1
    assert np.abs(mapped.astype(int) - picture).mean() > 5


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_stains_of_a_made_up_picture_are_recovered(method, pixels):
    fitted = fit_stains(method, pixels)
    for vector, true in ((fitted.hematoxylin, HEMATOXYLIN), (fitted.eosin, EOSIN)):
        angle = np.degrees(np.arccos(np.clip(np.dot(vector, true), -1, 1)))
        assert angle < 6
    true_strength = np.percentile(concentrations(np.random.default_rng(0), 6000), 99, axis=0)
    assert np.allclose(fitted.strength, true_strength, rtol=0.15)
    assert fit_stains(method, pixels) == fitted
    # Glass, however much of it, and the order of macenko's pixels change nothing.
    glass = np.full((20_000, 3), 244, np.uint8)
    assert fit_stains(method, np.concatenate([glass[:9000], pixels, glass])) == fitted
    if method == "macenko":
        assert fit_stains(method, pixels[::-1]) == fitted


def objective(density: np.ndarray, vectors: np.ndarray, weight: float) -> float:
    """Vahadane's objective, with each pixel's best concentrations by trying all sets of positive ones."""
    total = 0.0
    (h, e), gram = vectors, float(vectors[0] @ vectors[1])
    for pixel in density:
        of_h, of_e = pixel @ h - weight, pixel @ e - weight
        both = np.array([of_h - gram * of_e, of_e - gram * of_h]) / (1 - gram**2)
        choices = [np.zeros(2), np.array([max(of_h, 0), 0]), np.array([0, max(of_e, 0)])]
        choices += [both] if both.min() > 0 else []
        total += min(0.5 * np.sum((pixel - c @ vectors) ** 2) + weight * c.sum() for c in choices)
    return total


@pytest.mark.slow
def test_vahadane_s_stains_minimise_his_objective(pixels):
    density = -np.log((pixels.astype(float) + 1) / 240)
    density = density[(density > 0.15).all(axis=1)]
    sample = density[np.linspace(0, len(density) - 1, 2000).round().astype(int)]
    fitted = fit_stains("vahadane", pixels)
    best = np.array([fitted.hematoxylin, fitted.eosin])
    least = objective(sample, best, 0.1)
    rng = np.random.default_rng(2)
    for _ in range(12):
        moved = np.maximum(best + rng.normal(0, 0.03, size=(2, 3)), 0)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        assert objective(sample, moved, 0.1) > least - 1e-3 * least
    assert objective(sample, np.array([HEMATOXYLIN, EOSIN]), 0.1) > least - 1e-3 * least
    macenko = fit_stains("macenko", pixels)
    assert objective(sample, np.array([macenko.hematoxylin, macenko.eosin]), 0.1) > least


@pytest.mark.parametrize("method", METHODS)
def test_pictures_without_two_stains_are_refused(method, pixels):
    rng = np.random.default_rng(3)
    grey = np.repeat(rng.integers(60, 180, size=(5000, 1), dtype=np.uint8), 3, axis=1)
    one_stain = stain(concentrations(rng, 5000) * [1, 0] + [0.3, 0])
    cases = {
        "0 of 5000 sampled pixels are stained": np.full((5000, 3), 250, np.uint8),
        "0 of 0 sampled": np.zeros((0, 3), np.uint8),
        "999 of 1500 sampled pixels are stained, 1000 are needed": np.concatenate(
            [pixels[(pixels < 180).all(axis=1)][:999], np.full((501, 3), 250, np.uint8)]
        ),
        "colours (show one stain only|do not vary)": grey,
        "colours show one stain only|colours do not vary|stains is absent": one_stain,
        "colours": np.tile(np.array([[120, 60, 110]], np.uint8), (5000, 1)),
    }
    for reason, picture in cases.items():
        with pytest.raises(StainsNotFitted, match=reason):
            fit_stains(method, picture)


def test_a_choice_survives_a_store_and_a_checkpoint(tmp_path, pixels):
    Image.fromarray(pixels.reshape(60, 100, 3)).save(tmp_path / "target.png")
    image = stain_normalization("macenko", tmp_path / "target.png")
    assert len(image.target) == 64
    assert image.target_stains == fit_stains("macenko", pixels)
    built_in = stain_normalization("vahadane")
    assert (built_in.target, built_in.target_stains) == ("built-in", built_in_target())
    assert built_in.library == f"scikit-learn {metadata.version('scikit-learn')}"
    assert image.library == f"torchstain {metadata.version('torchstain')}"
    for each in (image, built_in):
        assert StainNormalization.from_identity(each.identity) == each
    assert stain_normalization(None) is None


def test_impossible_choices_are_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (200, 200), "white").save(tmp_path / "white.png")
    cases = {
        ("reinhardt", None): "--stain-normalization reinhardt: give one of macenko, vahadane",
        (None, "a.png"): "--stain-target: needs a method; add --stain-normalization macenko or vahadane",
        ("macenko", tmp_path / "absent.png"): "absent.png: cannot be read .*; give a PNG or JPEG",
        ("macenko", tmp_path / "text.png"): "text.png: cannot be read .*; give a PNG or JPEG",
        (
            "macenko",
            tmp_path / "white.png",
        ): "white.png: 0 of 40000 sampled pixels are stained.*give an image of stained",
    }
    for arguments, message in cases.items():
        with pytest.raises(InputError, match=message):
            stain_normalization(*arguments)

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("dmml.slides.stains.fit_stains.version", absent)
    with pytest.raises(InputError, match=r"needs torchstain; install it with `pip install 'dmml\[stain\]'`"):
        stain_normalization("macenko")

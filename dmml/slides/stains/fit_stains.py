"""Estimates stains from pixels: Macenko's method by torchstain, Vahadane's factorisation by scikit-learn."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from dmml.errors import InputError
from dmml.slides.stains.colour_map import TRANSMITTED
from dmml.slides.stains.stains import METHODS, Stains

_LIBRARIES = {"macenko": "torchstain", "vahadane": "scikit-learn"}
_MIN_DENSITY = 0.15
"""Optical density that all channels of a stained pixel exceed, torchstain's value"""
_MIN_PIXELS = 1000
"""Minimum number of stained pixels"""
_MIN_ANGLE = 10.0
"""Minimum angle between the two stains, in degrees; those of H&E are 25 to 50 degrees apart"""
_MIN_COMPONENT = -0.05
"""Smallest component of a stain; a clearly negative one would mean that it emits light"""
_SPARSITY = 0.1
"""Weight λ of the L1 norm of concentrations, that of StainTools and TIAToolbox"""
_SPARSE_PIXELS, _SPARSE_STEPS = 2000, 60
"""Number of pixels that are factorised, and of steps"""


class StainsNotFitted(Exception):
    """The pixels do not show two stains; the text is the reason."""


def library_of(method: str) -> str:
    """Name and version of the library that estimates stains by a method.

    Raises:
        InputError: The method is unknown, or the extra `stain` is not installed.
    """
    if method not in METHODS:
        raise InputError(f"--stain-normalization {method}: give one of {', '.join(METHODS)}")
    try:
        versions = {name: version(name) for name in _LIBRARIES.values()}
    except PackageNotFoundError as error:
        raise InputError(
            f"--stain-normalization {method}: needs {error.name}; install it with `pip install 'dmml[stain]'`"
        ) from error
    return f"{_LIBRARIES[method]} {versions[_LIBRARIES[method]]}"


def built_in_target() -> Stains:
    """The reference of torchstain, which it took over from the first public code of Macenko's method."""
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

    reference = NumpyMacenkoNormalizer()
    return _stains(reference.HERef.T, reference.maxCRef)


def fit_stains(method: str, pixels: np.ndarray) -> Stains:
    """Estimate the stains of a slide or of a target.

    Args:
        method: One of `METHODS`.
        pixels: (n, 3) uint8 of tissue; glass among them is left out, so that its share changes nothing.

    Raises:
        StainsNotFitted: There are too few stained pixels, or they do not show two stains.
    """
    density = -np.log((pixels.astype(np.float64) + 1) / TRANSMITTED)
    is_stained = (density > _MIN_DENSITY).all(axis=1)
    if is_stained.sum() < _MIN_PIXELS:
        raise StainsNotFitted(
            f"{int(is_stained.sum())} of {len(pixels)} sampled pixels are stained, {_MIN_PIXELS} are needed"
        )
    density = density[is_stained]
    pixels = pixels[is_stained]
    vectors = _by_macenko(pixels) if method == "macenko" else _by_vahadane(pixels, density)
    _check_vectors(vectors)
    concentrations = density @ np.linalg.pinv(vectors)  # (n, 2)
    strength = np.percentile(concentrations, 99, axis=0)
    if not strength.min() > _MIN_DENSITY:
        raise StainsNotFitted("one of the two stains is absent")
    return _stains(vectors, strength)


def _by_macenko(pixels: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 → (2, 3), hematoxylin first: extreme directions in the plane of the two main components."""
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

    normalizer = NumpyMacenkoNormalizer()
    with np.errstate(all="ignore"):
        normalizer.fit(pixels[None], Io=TRANSMITTED, beta=_MIN_DENSITY)
    return np.asarray(normalizer.HERef.T)


def _by_vahadane(pixels: np.ndarray, density: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 and their optical density → (2, 3), hematoxylin first.

    Vahadane et al. 2016: min ½ ‖V − W H‖² + λ ‖W‖₁ over concentrations W ≥ 0 and stains H ≥ 0 of unit length. It is
    solved on evenly spaced pixels, starting from Macenko's stains, so that nothing is drawn at random.
    """
    from sklearn.decomposition import DictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    rows = np.linspace(0, len(density) - 1, min(len(density), _SPARSE_PIXELS)).round().astype(int)
    start = _by_macenko(pixels)
    _check_vectors(start)
    start = np.maximum(start, 0.0)
    sample = density[rows]
    factorisation = DictionaryLearning(
        n_components=2,
        alpha=_SPARSITY,
        max_iter=_SPARSE_STEPS,
        tol=1e-5,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        positive_code=True,
        positive_dict=True,
        dict_init=start,
        code_init=np.maximum(sample @ np.linalg.pinv(start), 0.0),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        vectors = factorisation.fit(sample).components_
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not length.min() > 0:
        raise StainsNotFitted("one of the two stains is absent")
    return np.asarray((vectors / length)[np.argsort(-vectors[:, 0] / length[:, 0])])


def _check_vectors(vectors: np.ndarray) -> None:
    """Refuse vectors that are not those of two different dyes."""
    if not np.isfinite(vectors).all():
        raise StainsNotFitted("its colours do not vary")
    angle = np.degrees(np.arccos(np.clip(vectors[0] @ vectors[1] / np.prod(np.linalg.norm(vectors, axis=1)), -1, 1)))
    if angle < _MIN_ANGLE:
        raise StainsNotFitted(
            f"its colours show one stain only (two stains would be {angle:.0f} degrees apart, {_MIN_ANGLE:.0f} are needed)"
        )
    if vectors.min() < _MIN_COMPONENT:
        raise StainsNotFitted("its colours are not those of two dyes that absorb light")


def _stains(vectors: np.ndarray, strength: np.ndarray) -> Stains:
    return Stains.from_plain({"hematoxylin": vectors[0], "eosin": vectors[1], "strength": strength})

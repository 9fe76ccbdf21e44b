"""Pictures of two stains whose vectors and concentrations are known."""

import numpy as np

HEMATOXYLIN, EOSIN = (np.array(v) / np.linalg.norm(v) for v in ([0.65, 0.65, 0.39], [0.12, 0.92, 0.37]))


def concentrations(rng, n: int) -> np.ndarray:
    """(n, 2): most pixels have one stain, others both."""
    drawn = rng.gamma(4.0, 0.25, size=(n, 2))
    kind = rng.integers(0, 3, size=n)
    drawn[kind == 0, 0] *= 0.02
    drawn[kind == 1, 1] *= 0.02
    return drawn


def stain(amounts: np.ndarray, vectors=(HEMATOXYLIN, EOSIN)) -> np.ndarray:
    """(…, 2) concentrations → (…, 3) uint8."""
    light = 240 * np.exp(-(amounts @ np.array(vectors))) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def paint_stained(width: int, height: int, box: tuple[int, int, int, int], seed: int = 0, **options) -> np.ndarray:
    """(H, W, 3) uint8: glass, and a box (x, y, w, h) of tissue in patches of 8 px."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(243, 1.5, (height, width, 3))
    x, y, w, h = box
    patches = stain(concentrations(rng, (w // 8) * (h // 8)), **options).reshape(h // 8, w // 8, 3)
    picture[y : y + h, x : x + w] = patches.repeat(8, axis=0).repeat(8, axis=1)
    return picture.clip(0, 255).astype(np.uint8)

"""Converts µm from the origin of a slide, which its bounds may leave out, to pixels of the image that QuPath shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.slides.wsi.bounds import Bounds


@dataclass(frozen=True)
class SlideFrame:
    """The image that QuPath shows of a slide: its finest level, cropped to the bounds that the file states.

    Attributes:
        mpp: µm per pixel of the finest level.
        bounds: The part that QuPath shows.
    """

    mpp: float
    bounds: Bounds

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> SlideFrame:
        """Return the frame of a slide with these attributes, as its layout states them."""
        return cls(attributes["mpp"], Bounds(*attributes.get("bounds", (0, 0, *attributes["dimensions"]))))

    def pixels(self, um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (..., 2) µm from the slide's origin to pixels of the finest level from the image's upper left corner."""
        return np.asarray(um, np.float64) / self.mpp - np.array((self.bounds.left, self.bounds.top))

    def micrometres(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (..., 2) pixels of the image, from its upper left corner, to µm from the slide's origin."""
        return (np.asarray(pixels, np.float64) + np.array((self.bounds.left, self.bounds.top))) * self.mpp

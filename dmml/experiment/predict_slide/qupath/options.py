"""Which files for QuPath are written, checked before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.wsi.slide import Slide

OME_TIFF, DICOM = "ome-tiff", "dicom"
LIBRARIES = {OME_TIFF: ("tifffile", "overlay"), DICOM: ("highdicom", "dicom")}
"""{format of overlays: (library that writes it, extra of dmml that installs the library)}"""


@dataclass(frozen=True)
class QuPathFiles:
    """Which files are written besides the tiles.

    Attributes:
        regions: Whether adjacent tiles of the same class are also written as regions.
        overlay: Format of overlays, a key of `LIBRARIES`; None = no overlay.

    Raises:
        InputError: The format does not exist, or its library is not installed.
    """

    regions: bool = False
    overlay: str | None = None

    def __post_init__(self) -> None:
        if self.overlay is None:
            return
        if self.overlay not in LIBRARIES:
            raise InputError(f"--overlay {self.overlay}: must be one of {', '.join(LIBRARIES)}")
        from importlib.util import find_spec

        library, extra = LIBRARIES[self.overlay]
        if find_spec(library) is None:
            raise InputError(f"--overlay {self.overlay}: needs {library}; install it with pip install 'dmml[{extra}]'")

    def check_slides(self, slides: Iterable[Path], mpp: float | None) -> None:
        """Check that overlays of the format can be written for slides.

        Args:
            slides: Paths of the slides.
            mpp: µm per pixel from the user, for slides that do not state it.

        Raises:
            InputError: A DICOM overlay is wanted for a slide of another format.
        """
        for path in slides if self.overlay == DICOM else ():
            with Slide(path, mpp) as slide:
                if slide.series is None:
                    raise InputError(
                        f"--overlay {DICOM}: {path} is no DICOM slide, to which such an overlay must refer; give "
                        f"--overlay {OME_TIFF}"
                    )

"""Many slides to one feature store: resumable, a bad slide is recorded and the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.failures import Failure, beside, record_failures
from dmml.slides.grid import TILE_PX, check_magnifications, pixel_um
from dmml.slides.mpp import SlideError, check_given
from dmml.slides.survey import Survey, survey

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.store import FeatureStore

FAILURES, QC = "failures.csv", "qc.html"


@dataclass
class Extraction:
    """What a run did."""

    written: list[str] = field(default_factory=list)
    """Slides that it wrote"""
    passed_over: list[str] = field(default_factory=list)
    """Slides that were there already"""
    failures: list[Failure] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    tiles: int = 0
    seconds: float = 0.0
    qc: str = ""


def extract(
    slides: Sequence[str | Path],
    out: str | Path,
    encoder: str | Encoder | None = None,
    weights: str | Path | None = None,
    magnifications: Sequence[int] = (10, 20),
    mpp: float | None = None,
    batch_size: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> Extraction:
    """Write features of slides into a store.

    Slides that are complete in the store are passed over. A slide that cannot be used goes into `failures.csv` beside
    the store, and the rest goes on. A picture of every slide with its tiles is kept in `qc.html` beside the store.

    Args:
        slides: Files, and folders that are searched for slides.
        out: Store to write to or go on with; folder or fsspec URL.
        encoder: Name for `load_encoder`, a loaded encoder, or None for the default.
        weights: Local weights for it.
        magnifications: One, or two of which the finer is twice the coarser.
        mpp: µm per pixel, used only where a slide tells none.
        batch_size: Tiles a call of the encoder; its own choice when None.
        strict: Raise when any slide failed, after the rest is done.
        overwrite: Extract slides again that are there.

    Raises:
        InputError: Nothing can be extracted, the store was made otherwise, or `strict` and a slide failed.
    """
    from dmml.slides.encoders import DEFAULT, check_weights

    magnifications = check_magnifications(magnifications)
    if mpp is not None:
        check_given(mpp)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be at least 1")
    encoder = encoder or DEFAULT
    out = str(out).removeprefix("file://")
    store = _existing(out)
    if store:
        _check_same(store, out, encoder, magnifications)
    found = survey(slides, mpp, magnifications, _done_in(store, overwrite))
    result = Extraction(passed_over=[path.stem for path in found.done], failures=found.failures, ignored=found.ignored)
    if isinstance(encoder, str):
        check_weights(encoder, weights)
    if found.usable:
        store = _extract_usable(found, out, encoder, weights, magnifications, mpp, batch_size, result)
    everything = record_failures(beside(out, FAILURES), result.failures, found.looked_at())
    if not (result.written or result.passed_over):
        raise InputError(_none_left(result.failures, beside(out, FAILURES)))
    result.qc = _write_qc(store, everything)
    if strict and result.failures:
        raise InputError(
            f"{len(result.failures)} of {len(found.looked_at())} slides failed (--strict; the others are in {out}): "
            f"{result.failures[0].reason}; all in {beside(out, FAILURES)}"
        )
    return result


def _extract_usable(
    found: Survey,
    out: str | Path,
    encoder: str | Encoder,
    weights: str | Path | None,
    magnifications: tuple[int, ...],
    mpp: float | None,
    batch_size: int | None,
    result: Extraction,
) -> FeatureStore:
    """Encode the slides that passed the survey and fill in `result`."""
    import time

    from tqdm import tqdm

    from dmml.slides.encoders import load_encoder
    from dmml.slides.tokens import tokens_of_slide
    from dmml.store import FeatureStore

    if isinstance(encoder, str):
        encoder = load_encoder(encoder, weights)

    def open_store() -> FeatureStore:
        return FeatureStore.create(out, encoder.identity, {m: pixel_um(m) for m in magnifications}, TILE_PX)

    # A new store is made with the first slide that has features, so that input of which nothing can be used leaves none.
    store = open_store() if _existing(out) else None
    start = time.perf_counter()
    with (
        tqdm(found.usable, desc="slides", unit="slide", disable=None) as slides,
        tqdm(desc="tiles", unit="tile", disable=None, leave=False) as tiles,
    ):

        def progress(done: int, total: int) -> None:
            tiles.total = total
            tiles.update(done - tiles.n)

        for path in slides:
            tiles.reset()
            tiles.set_description(path.stem[:30])
            try:
                bags, thumbnail, attributes = tokens_of_slide(path, encoder, mpp, magnifications, batch_size, progress)
            except SlideError as error:
                result.failures.append(Failure(str(path), error.state, str(error)))
                continue
            store = store or open_store()
            store.write(path.stem, bags, attributes, thumbnail)
            result.written.append(path.stem)
            result.tiles += sum(len(bag.features) for bag in bags.values())
    result.seconds = time.perf_counter() - start
    return store


def _existing(out: str | Path) -> FeatureStore | None:
    """The store at `out`, or None where there is none yet."""
    local = "://" not in str(out)
    if local and not Path(out).exists():
        return None
    from dmml.store import FeatureStore, is_store

    if is_store(out):
        return FeatureStore(out)
    if local and not (Path(out).is_dir() and not any(Path(out).iterdir())):
        raise InputError(f"--out {out}: exists and is no feature store; name a new folder, e.g. features.zarr")
    return None


def _check_same(store: FeatureStore, out: str | Path, encoder: str | Encoder, magnifications: tuple[int, ...]) -> None:
    """Refuse at once what the store's own check would refuse after the encoder is loaded."""
    held = store.attributes
    name = encoder if isinstance(encoder, str) else encoder.name
    if held["encoder"]["name"] != name:
        raise InputError(
            f"--out {out}: holds features of {held['encoder']['name']}, not {name}; write to another --out"
        )
    if tuple(sorted(held["magnifications"])) != magnifications:
        there = " ".join(str(m) for m in sorted(held["magnifications"]))
        raise InputError(f"--out {out}: holds magnifications {there}; give --magnifications {there} or another --out")


def _done_in(store: FeatureStore | None, overwrite: bool):
    """Whether a slide is in the store and still the same file."""

    def is_done(path: Path) -> bool:
        if store is None or overwrite or path.stem not in store:
            return False
        attributes = store.slide_attributes(path.stem)
        if attributes.get("source", path.name) != path.name:
            raise SlideError(
                "duplicate_stem",
                f"{path}: the store holds {path.stem!r} from {attributes['source']}; rename one, or give --overwrite",
            )
        return attributes.get("source_bytes") == path.stat().st_size

    return is_done


def _none_left(failures: list[Failure], path: str) -> str:
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return f"none of the {len(failures)} slides can be used ({states}), e.g. {failures[0].reason}; all in {path}"


def _write_qc(store: FeatureStore, failures: list[Failure]) -> str:
    from dmml.slides.qc import write_qc

    return write_qc(store, failures, beside(store.path, QC))

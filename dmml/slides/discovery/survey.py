"""Checks the user's files before anything expensive: which of them are slides, whether they open and have a scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.discovery.file_names import check_name, in_one_line
from dmml.slides.discovery.find import describe_unscaled, find_slides
from dmml.slides.discovery.manifest import Selection
from dmml.slides.extraction.failures import Failure
from dmml.slides.extraction.shards import Shard
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.wsi.mpp import SlideError
from dmml.slides.wsi.readers import Readers

_THREADS = 4


@dataclass
class Survey:
    """The outcome of checking the given files."""

    usable: list[Path] = field(default_factory=list)
    """Slides that open, have a scale, and are fine enough"""
    done: list[Path] = field(default_factory=list)
    """Slides that need not be extracted again"""
    failures: list[Failure] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    """Files in the given folders that are not slides, and further files of DICOM series"""
    unscaled: list[Path] = field(default_factory=list)
    """Plain images in the given folders that are skipped because they have no scale"""
    missing: list[str] = field(default_factory=list)
    """Names in the manifest without a matching file"""
    written_at: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """{slide in the store to be replaced: when it was written, which shows whether another process has replaced it}"""

    def looked_at(self) -> list[str]:
        """Every file that was taken for a slide."""
        files = [str(path) for path in (*self.usable, *self.done)] + [failure.file for failure in self.failures]
        return sorted(set(files))


def survey(
    inputs: Sequence[str | Path],
    mpp_of: Callable[[Path], float | None],
    magnifications: tuple[int, ...],
    readers: Readers,
    is_done: Callable[[Path], bool] = lambda path: False,
    select: Callable[[Sequence[Path], Sequence[Path]], Selection] = Selection,
    shard: Shard | None = None,
) -> Survey:
    """Find the slides, refuse stems that occur twice, and open each slide that is not done.

    Args:
        inputs: Files and folders.
        mpp_of: µm per pixel from the user, for slides that do not state it; a plain image in a folder is a slide only
            if it has one.
        magnifications: As returned by `check_magnifications`.
        readers: Readers that open the slides: a file that crashes or stalls a decoder must not end the run.
        is_done: Whether a slide need not be opened; may raise `SlideError`.
        select: Picks the wanted slides among the slides and the images without a scale, and names the missing ones.
        shard: Only slides of this shard are checked.

    Raises:
        InputError: A path is missing, or there is no slide at all.
    """
    from tqdm import tqdm

    files = find_slides(inputs, lambda path: mpp_of(path) is not None)
    meant = select(files.slides, files.unscaled)
    if not meant.slides:
        raise InputError(f"none of the slides that the manifest names can be used: {describe_unscaled(meant.unscaled)}")
    result = Survey(ignored=files.ignored, unscaled=meant.unscaled, missing=meant.missing)
    slides = _with_names(meant.slides, result)
    own = slides if shard is None else [path for path in slides if shard.has(_shard_name(path))]
    unique = _without_twins(own, slides, result)

    def look(path: Path) -> tuple[Path, str | None, Failure | None, bool]:
        try:
            done = is_done(path)
            if done and not _is_dicom(path):
                return path, None, None, True
            return path, readers.submit("look", SlideRequest(path, magnifications, mpp_of(path))).result(), None, done
        except SlideError as error:
            return path, None, Failure(str(path), error.state, str(error)), False
        except OSError as error:
            reason = f"{path}: cannot be read ({error.strerror or error}); check the file and its rights"
            return path, None, Failure(str(path), "unreadable", reason), False

    with ThreadPoolExecutor(_THREADS) as pool:
        looks = tqdm(
            pool.map(look, unique), total=len(unique), desc="checking slides", unit="slide", disable=None, leave=False
        )
        _sort(looks, result)
    _part_twins(result)
    return result


def _sort(looks: Iterable[tuple[Path, str | None, Failure | None, bool]], result: Survey) -> None:
    """Sort the checked slides by outcome; each is (path, its DICOM series, why it failed, whether it is done)."""
    series: set[str] = set()
    for path, its_series, failure, done in looks:
        if failure:
            result.failures.append(failure)
        elif its_series in series:
            # Every file of a DICOM series opens the whole slide, so one of them is enough.
            result.ignored.append(path)
        else:
            series |= {its_series} - {None}
            (result.done if done else result.usable).append(path)


def _with_names(slides: list[Path], result: Survey) -> list[Path]:
    """Keep slides whose name can be an id, and refuse the others."""
    named = []
    for path in slides:
        try:
            check_name(path)
            named.append(path)
        except SlideError as error:
            result.failures.append(Failure(in_one_line(path), error.state, str(error)))
    return named


def _without_twins(own: list[Path], slides: list[Path], result: Survey) -> list[Path]:
    """Keep slides whose name no other file has, and refuse the others. DICOM files are judged later, as series."""
    stems = Counter(path.stem for path in slides if not _is_dicom(path))
    single = [path for path in own if _is_dicom(path) or stems[path.stem] == 1]
    result.failures += [_twin(path, slides) for path in own if path not in set(single)]
    return single


def _part_twins(result: Survey) -> None:
    """Refuse slides whose name another slide has, now that a single file stands for each DICOM series."""
    there = [*result.usable, *result.done]
    stems = Counter(path.stem for path in there)
    twins = {path for path in there if stems[path.stem] > 1}
    result.usable, result.done = ([path for path in part if path not in twins] for part in (result.usable, result.done))
    result.failures += [_twin(path, there) for path in there if path in twins]


def _twin(path: Path, slides: list[Path]) -> Failure:
    others = ", ".join(str(other) for other in slides if other.stem == path.stem and other != path)
    reason = f"{path}: same name {path.stem!r} as {others}; a slide's id is its file name, so rename one"
    return Failure(str(path), "duplicate_stem", reason)


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _shard_name(path: Path) -> str:
    """Name that decides on the shard: the slide's; for DICOM the folder's, since several files are one slide."""
    return path.absolute().parent.name if _is_dicom(path) else path.stem

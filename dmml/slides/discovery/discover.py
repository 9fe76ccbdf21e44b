"""Checks the user's files before anything expensive: which of them are slides, whether they open and have a scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dmml.errors import InputError, reason_of
from dmml.progress_bars import progress_bar
from dmml.slides.discovery.file_names import check_name, in_one_line
from dmml.slides.discovery.find import describe_unscaled, find_slides
from dmml.slides.discovery.manifest import Selection
from dmml.slides.discovery.shards import Shard
from dmml.slides.failures import Failure
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.reading.storage_watch import StorageWatch
from dmml.slides.slide_error import SlideError
from dmml.slides.staging.staged_slides import StagedSlides
from dmml.slides.storage.lost_storage import STATE, is_lost, storage_lost
from dmml.slides.tiling.layout import SlideRequest

_THREADS = 4


@dataclass
class Discovery:
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

    def examined_files(self) -> list[str]:
        """Every file that was taken for a slide."""
        files = [str(path) for path in (*self.usable, *self.done)] + [failure.file for failure in self.failures]
        return sorted(set(files))


@dataclass(frozen=True)
class _CheckedFile:
    path: Path
    series: str | None = None
    """DICOM series of the file; None for other formats"""
    failure: Failure | None = None
    is_done: bool = False
    """Whether the slide need not be extracted again"""


def discover_slides(
    inputs: Sequence[str | Path],
    mpp_of: Callable[[Path], float | None],
    magnifications: tuple[int, ...],
    readers: ReaderPool,
    is_done: Callable[[Path], bool] = lambda path: False,
    select: Callable[[list[Path], list[Path]], Selection] = lambda slides, unscaled: Selection(slides, unscaled),
    shard: Shard | None = None,
    storage: StorageWatch | None = None,
    staged: StagedSlides | None = None,
) -> Discovery:
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
        staged: Slides on object storage, which are opened only after they were downloaded.
        storage: Waits for storage that is gone; None means that a slide that is lost is recorded at once.

    Raises:
        InputError: A path is missing, there is no slide at all, or storage is gone and does not come back.
    """
    files = find_slides(inputs, lambda path: mpp_of(path) is not None, staged)
    selection = select(files.slides, files.unscaled)
    if not selection.slides:
        raise InputError(
            f"none of the slides that the manifest names can be used: {describe_unscaled(selection.unscaled)}"
        )
    result = Discovery(ignored=files.ignored, unscaled=selection.unscaled, missing=selection.missing)
    slides = _with_valid_names(selection.slides, result)
    of_shard = slides if shard is None else [path for path in slides if shard.has(_shard_name(path))]
    unique = _with_unique_names(of_shard, slides, result)

    broken_links = {path for path in unique if _is_broken_link(path)}

    def attempt(path: Path) -> _CheckedFile:
        try:
            done = is_done(path)
            if staged is not None and path in staged:
                return _CheckedFile(path, staged.series(path), is_done=done)
            if done and not _is_dicom(path):
                return _CheckedFile(path, is_done=True)
            request = SlideRequest(path, magnifications, mpp_of(path), is_listed=path not in broken_links)
            return _CheckedFile(path, readers.check(request).result(), is_done=done)
        except SlideError as error:
            return _CheckedFile(path, failure=Failure(str(path), error.state, str(error)))
        except OSError as error:
            if is_lost(error) and path not in broken_links:
                return _CheckedFile(path, failure=Failure(str(path), STATE, str(storage_lost(path, reason_of(error)))))
            reason = f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
            return _CheckedFile(path, failure=Failure(str(path), "unreadable", reason))

    def check(path: Path) -> _CheckedFile:
        file = attempt(path)
        if file.failure and file.failure.state == STATE and storage and storage.wait(path, _after(path, unique)):
            return attempt(path)
        return file

    with ThreadPoolExecutor(_THREADS) as pool:
        _sort_by_outcome(progress_bar(pool.map(check, unique), "checking slides", len(unique)), result)
    _remove_same_names(result)
    return result


def _is_broken_link(path: Path) -> bool:
    """Whether a link leads nowhere; storage that does not answer may still hold what it leads to."""
    try:
        if path.is_symlink():
            path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _after(path: Path, slides: Sequence[Path]) -> list[Path]:
    """The slides after one in the list, and then those before it."""
    index = slides.index(path)
    return [*slides[index + 1 :], *slides[:index]]


def _sort_by_outcome(files: Iterable[_CheckedFile], result: Discovery) -> None:
    seen_series: set[str] = set()
    for file in files:
        if file.failure:
            result.failures.append(file.failure)
        elif file.series in seen_series:
            # Every file of a DICOM series opens the whole slide, so one of them is enough.
            result.ignored.append(file.path)
        else:
            if file.series is not None:
                seen_series.add(file.series)
            (result.done if file.is_done else result.usable).append(file.path)


def _with_valid_names(slides: list[Path], result: Discovery) -> list[Path]:
    """Keep slides whose name can be an id, and refuse the others."""
    valid = []
    for path in slides:
        try:
            check_name(path)
            valid.append(path)
        except SlideError as error:
            result.failures.append(Failure(in_one_line(path), error.state, str(error)))
    return valid


def _with_unique_names(of_shard: list[Path], slides: list[Path], result: Discovery) -> list[Path]:
    """Keep slides whose name no other file has, and refuse the others. DICOM files are judged later, as series."""
    stems = Counter(path.stem for path in slides if not _is_dicom(path))
    is_unique = {path: _is_dicom(path) or stems[path.stem] == 1 for path in of_shard}
    result.failures += _same_names([path for path in of_shard if not is_unique[path]], slides)
    return [path for path in of_shard if is_unique[path]]


def _remove_same_names(result: Discovery) -> None:
    """Refuse slides whose name another slide has, now that a single file stands for each DICOM series."""
    slides = [*result.usable, *result.done]
    stems = Counter(path.stem for path in slides)
    ambiguous = [path for path in slides if stems[path.stem] > 1]
    result.usable = [path for path in result.usable if stems[path.stem] == 1]
    result.done = [path for path in result.done if stems[path.stem] == 1]
    result.failures += _same_names(ambiguous, slides)


def _same_names(ambiguous: list[Path], slides: list[Path]) -> list[Failure]:
    """The failures of slides whose name other slides have."""
    if not ambiguous:
        return []
    by_stem: dict[str, list[Path]] = {}
    for path in slides:
        by_stem.setdefault(path.stem, []).append(path)
    return [_same_name(path, [other for other in by_stem[path.stem] if other != path]) for path in ambiguous]


def _same_name(path: Path, others: list[Path]) -> Failure:
    reason = (
        f"{path}: has the same name {path.stem!r} as {', '.join(map(str, others))}; a slide's id is its file name, so rename "
        "one of them"
    )
    return Failure(str(path), "duplicate_stem", reason)


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _shard_name(path: Path) -> str:
    """Name that decides on the shard: the slide's; for DICOM the folder's, since several files are one slide."""
    return path.absolute().parent.name if _is_dicom(path) else path.stem

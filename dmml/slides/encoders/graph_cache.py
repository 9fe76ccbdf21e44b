"""Exported graphs of encoders, kept in a folder into which only the user can write.

Each encoder has two files for each size of the tiles: `<key>.onnx`, and `<key>.json` with its identity, the hash of the
graph, how well it agrees with PyTorch, and which backend was fastest on which processor. The JSON file is written last and names the graph's hash,
so that an incomplete, damaged or exchanged graph is recognised and made again. A file `source-<hash>.json` holds the
identity of the encoder that a file of weights belongs to. Everything here can be deleted at any time. Neither torch nor
timm is needed to read a graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmml.atomic_files import atomic_write
from dmml.errors import InputError, reason_of
from dmml.slides.encoders.agreement import Agreement
from dmml.slides.tiling.grid import DEFAULT_TILE_PX

FOLDER_VARIABLE = "DMML_ENCODER_CACHE"
"""Environment variable that names the folder"""
_FORMAT = 1
"""Increased whenever graphs are exported in another way"""
_LOG = logging.getLogger(__name__)


@dataclass
class GraphRecord:
    """Content of a graph's JSON file."""

    identity: dict[str, Any]
    """`name`, `weights` (hash), `dim` and `preprocessing` (`mean`, `std`, `size`) of the encoder"""
    sha256: str
    """Hash of the graph; empty if it could not be exported"""
    agreement: Agreement | None
    """Agreement with PyTorch; None if it could not be exported"""
    problem: str = ""
    """Why the graph is not used; empty if it can be"""
    choices: dict[str, dict[str, float]] = field(default_factory=dict)
    """{processor and versions: {backend: tiles per second}}; empty where the graph could not be exported"""
    tile_px: int = DEFAULT_TILE_PX
    """Side of the tiles that the graph takes, px"""


def default_folder() -> Path:
    """Return the folder that the environment names, or `dmml/encoders` in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache") / "dmml" / "encoders"


class GraphCache:
    """The folder of graphs.

    Args:
        folder: The folder, which is created if necessary; None means `default_folder()`.

    Raises:
        InputError: The folder cannot be created, or somebody else could write into it: a graph decides what a model
            answers.
    """

    def __init__(self, folder: Path | None = None):
        try:
            self.folder = folder or default_folder()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.lstat()
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
            raise InputError(
                f"the folder for exported encoders cannot be used ({reason_of(error)}); name one with {FOLDER_VARIABLE}"
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise InputError(f"{self.folder}: is a link or a file instead of a folder; name one with {FOLDER_VARIABLE}")
        if os.name == "posix" and status.st_uid != os.geteuid():
            raise InputError(
                f"{self.folder}: belongs to another user; name a folder of your own with {FOLDER_VARIABLE}"
            )
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
            raise InputError(
                f"{self.folder}: is open to other users; `chmod 700 {self.folder}`, or name another folder with {FOLDER_VARIABLE}"
            )

    def record(self, identity: Mapping[str, Any], tile_px: int = DEFAULT_TILE_PX) -> GraphRecord | None:
        """Read the record of an encoder of tiles; None if there is none, or it is damaged or of another format."""
        content = self._read(self._file(identity, tile_px, ".json"))
        if content is None:
            return None
        try:
            values = json.loads(content)
            agreement = values.get("agreement")
            record = GraphRecord(
                dict(values["identity"]),
                str(values["sha256"]),
                Agreement(float(agreement["cosine"]), float(agreement["relative_error"])) if agreement else None,
                str(values["problem"]),
                {str(key): {str(b): float(s) for b, s in speeds.items()} for key, speeds in values["choices"].items()},
                int(values.get("tile_px", DEFAULT_TILE_PX)),
            )
            is_of_encoder = record.identity == _plain(identity) and record.tile_px == tile_px
            is_current = values["format"] == _FORMAT and is_of_encoder
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return record if is_current else None

    def graph(self, record: GraphRecord) -> bytes | None:
        """Read the graph of a record; None if it is missing or not the one that was checked."""
        content = self._read(self._file(record.identity, record.tile_px, ".onnx"))
        if content is None or hashlib.sha256(content).hexdigest() != record.sha256:
            _LOG.warning("%s: its exported graph is missing or damaged, and is made again", record.identity["name"])
            return None
        return content

    def write(self, record: GraphRecord, graph: bytes | None = None) -> None:
        """Write a record, and before it the graph, if one is given.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        if graph is not None:
            record.sha256 = hashlib.sha256(graph).hexdigest()
            self._write(self._file(record.identity, record.tile_px, ".onnx"), graph)
        values = {
            "format": _FORMAT,
            "identity": _plain(record.identity),
            "sha256": record.sha256,
            "agreement": record.agreement.plain() if record.agreement else None,
            "problem": record.problem,
            "choices": record.choices,
            "tile_px": record.tile_px,
        }
        self._write(self._file(record.identity, record.tile_px, ".json"), json.dumps(values, indent=2).encode())

    def identity_from(self, source: str) -> dict[str, Any] | None:
        """Read the identity of the encoder that was built from a source; None if it is not recorded.

        Args:
            source: Hash of everything that the encoder was built from.
        """
        content = self._read(self.folder / f"source-{source}.json")
        try:
            return None if content is None else dict(json.loads(content))
        except (ValueError, TypeError):
            return None

    def write_source(self, source: str, identity: Mapping[str, Any]) -> None:
        """Record the identity of the encoder that was built from a source; see `identity_from`.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        self._write(self.folder / f"source-{source}.json", json.dumps(_plain(identity), indent=2).encode())

    @contextlib.contextmanager
    def locked(self, identity: Mapping[str, Any], tile_px: int = DEFAULT_TILE_PX) -> Iterator[None]:
        """Hold the lock of an encoder of tiles, so that processes that start together export and time it once."""
        with contextlib.ExitStack() as stack:
            path = self._file(identity, tile_px, ".lock")
            with contextlib.suppress(ImportError, OSError):  # without locks, the same work is done twice
                import fcntl

                file = stack.enter_context(path.open("ab"))
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    _LOG.info("%s: waiting for another process that exports or times it", identity["name"])
                    fcntl.lockf(file, fcntl.LOCK_EX)
                for partial in self.folder.glob(f".{path.stem}.*.part*"):  # of a process that died
                    partial.unlink(missing_ok=True)
            yield

    def _file(self, identity: Mapping[str, Any], tile_px: int, suffix: str) -> Path:
        # Graphs of earlier versions, which took tiles of the default size alone, keep their names.
        size = {} if tile_px == DEFAULT_TILE_PX else {"tile_px": tile_px}
        text = json.dumps({**_plain(identity), **size}, sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9]+", "-", str(identity["name"]))[:60]
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{suffix}"

    @staticmethod
    def _read(path: Path) -> bytes | None:
        """Read a file of the user's that nobody else can write; None if there is no such file."""
        try:
            with open(path, "rb", opener=_open_no_link) as file:
                status = os.fstat(file.fileno())
                is_private = os.name != "posix" or (
                    status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o022
                )
                return file.read() if stat.S_ISREG(status.st_mode) and is_private else None
        except OSError:
            return None

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        with atomic_write(path) as partial:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an encoder's identity that determines its graph, as JSON gives it back."""
    parts = {key: identity.get(key) for key in ("name", "weights", "dim", "preprocessing")}
    return json.loads(json.dumps(parts))

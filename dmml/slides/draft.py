"""What is encoded of a slide before the slide is whole, on the disk: a run that is killed does not encode it again."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

import dmml

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.slides.layout import Layout

_RECORD = struct.Struct("<III")
"""Magnification, tiles, CRC-32 of what follows: (tiles,) int32 rows, (tiles, D) float16 features"""


Part = Callable[[int, np.ndarray, np.ndarray], None]
"""Takes a magnification, (n,) rows and (n, D) float16 features"""


class Draft:
    """Features of some tiles of a slide, in the order in which they came.

    A process can be killed, and a machine can go down, at any byte of the file: a record that is not whole, and all
    after it, are not believed. The file is not forced to the disk, as a slide of the store is: it saves work, and
    nothing depends on it. Where it cannot be written, it is given up.

    Args:
        path: Its file. What is there is kept if it is of the same slide, tiles and encoder, else begun anew.
        digest: As `digest_of` gives it.
        counts: {magnification: tiles}.
        dim: Width D of the encoder.
        known: Called with what an earlier run has left, part by part: as `add`.
    """

    def __init__(self, path: Path, digest: bytes, counts: Mapping[int, int], dim: int, known: Part):
        self._path, self._file = path, None
        try:
            # What is added comes to the end, wherever it was read last, and at once: there is no buffer to be lost.
            self._file = open(path, "a+b", buffering=0)
            end = _read(self._file, digest, counts, dim, known)
            self._file.truncate(end)
            if not end:
                self._append(digest)
        except OSError:
            self.remove()

    def add(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        """Keep features of tiles.

        Args:
            magnification: Of the tiles.
            rows: (n,) int, their rows.
            features: (n, D) float16.
        """
        body = np.asarray(rows, np.int32).tobytes() + np.ascontiguousarray(features, np.float16).tobytes()
        self._append(_RECORD.pack(magnification, len(rows), zlib.crc32(body)) + body)

    def remove(self) -> None:
        """The slide is in the store, or will not be."""
        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # what is left is tidied away with other leftovers, or not believed

    def _append(self, content: bytes) -> None:
        if self._file is None:
            return
        try:
            whole = self._file.write(content) == len(content)
        except OSError:
            whole = False
        if not whole:  # a full disk needs what this takes
            self.remove()


def _read(file: BinaryIO, digest: bytes, counts: Mapping[int, int], dim: int, known: Part) -> int:
    """Hand on what is whole; the byte behind it, 0 if nothing is."""
    file.seek(0)
    if file.read(len(digest)) != digest:
        return 0
    end = len(digest)
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        magnification, n, crc = _RECORD.unpack(head)
        if not 0 < n <= counts.get(magnification, 0):
            break
        body = file.read(n * (4 + 2 * dim))
        if len(body) != n * (4 + 2 * dim) or zlib.crc32(body) != crc:
            break
        rows = np.frombuffer(body, np.int32, n)
        if rows.min() < 0 or rows.max() >= counts[magnification]:
            break
        known(magnification, rows, np.frombuffer(body, np.float16, offset=4 * n).reshape(n, dim))
        end += len(head) + len(body)
    return end


def digest_of(layout: Layout, encoder: Encoder) -> bytes:
    """SHA-256 of all that decides on the features of a slide: its file, where its tiles lie, the encoder, this version."""
    known: dict[str, Any] = {
        "version": dmml.__version__,
        "encoder": encoder.identity,
        "precision": encoder.precision,
        "slide": {key: layout.attributes[key] for key in ("source", "source_bytes", "source_hash", "mpp")},
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for magnification, tiles in sorted(layout.tiles.items()):
        digest.update(f"{magnification}:{len(tiles)}".encode())
        digest.update(np.ascontiguousarray(tiles.cell, np.int64).tobytes())
    return digest.digest()

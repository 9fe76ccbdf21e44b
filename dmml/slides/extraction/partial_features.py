"""Keeps the features of an unfinished slide on the disk, so that a run that was killed does not encode it again."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dmml

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization
    from dmml.slides.tiling.layout import Layout

_RECORD = struct.Struct("<III")
"""Magnification, number of tiles, CRC-32 of what follows: (tiles,) int32 rows, (tiles, D) float16 features"""
Receiver = Callable[[int, np.ndarray, np.ndarray], None]
"""Function of a magnification, (n,) rows and (n, D) float16 features"""


class PartialFeatures:
    """Features of some tiles of a slide, in the order in which they were computed.

    A process can be killed, and a machine can go down, at any byte of the file: an incomplete record, and everything
    after it, is discarded. The file is not synchronised to the disk, unlike a slide of the store: it saves work, and
    nothing depends on it. If it cannot be written, it is given up.

    Args:
        path: The file. Its content is kept if it is of the same slide, tiles and encoder, otherwise it is begun anew.
        digest: As returned by `input_digest`.
        counts: {magnification: number of tiles}.
        dim: Width D of the encoder.
        receive: Called with each record that an earlier run left; takes the same arguments as `add`.
    """

    def __init__(self, path: Path, digest: bytes, counts: Mapping[int, int], dim: int, receive: Receiver):
        self._path = path
        self._file: FileIO | None = None
        try:
            # In append mode, writes go to the end whatever was read before; without a buffer, nothing can be lost.
            self._file = FileIO(path, "a+b")
            end = _read_records(self._file, digest, counts, dim, receive)
            self._file.truncate(end)
            if not end:
                self._append(digest)
        except OSError:
            self.remove()

    def add(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        """Keep features of tiles.

        Args:
            magnification: Magnification of the tiles.
            rows: (n,) int, rows of the tiles.
            features: (n, D) float16.
        """
        body = np.asarray(rows, np.int32).tobytes() + np.ascontiguousarray(features, np.float16).tobytes()
        self._append(_RECORD.pack(magnification, len(rows), zlib.crc32(body)) + body)

    def close(self) -> None:
        """Close the file and keep it, for a later attempt at the slide."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Close and delete the file, since the slide is in the store, or will not be."""
        self.close()
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # a remaining file is removed with other leftovers, or discarded when it is read

    def _append(self, content: bytes) -> None:
        if self._file is None:
            return
        try:
            is_complete = self._file.write(content) == len(content)
        except OSError:
            is_complete = False
        if not is_complete:  # the disk is full and needs the space of this file
            self.remove()


def _read_records(file: FileIO, digest: bytes, counts: Mapping[int, int], dim: int, receive: Receiver) -> int:
    """Pass on all complete records, and return the offset behind the last one; 0 if there are none of this slide."""
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
        receive(magnification, rows, np.frombuffer(body, np.float16, offset=4 * n).reshape(n, dim))
        end += len(head) + len(body)
    return end


def input_digest(layout: Layout, encoder: Encoder, stain_normalization: StainNormalization | None = None) -> bytes:
    """SHA-256 of all that determines a slide's features: file, tiles, encoder and backend, stains, and dmml's version."""
    inputs: dict[str, Any] = {
        "version": dmml.__version__,
        "encoder": encoder.identity,
        "precision": encoder.precision,
        "backend": encoder.backend,
        "slide": {key: layout.attributes[key] for key in ("source", "source_bytes", "source_hash", "mpp")},
    }
    if stain_normalization is not None and layout.stains is not None:
        inputs["stains"] = [stain_normalization.identity, layout.stains.plain()]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for magnification, tiles in sorted(layout.tiles.items()):
        digest.update(f"{magnification}:{len(tiles)}".encode())
        digest.update(np.ascontiguousarray(tiles.cell, np.int64).tobytes())
    return digest.digest()

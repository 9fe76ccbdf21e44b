"""What is encoded of a slide before the slide is whole, on the disk: a run that is killed does not encode it again."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dmml

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.slides.layout import Layout

_RECORD = struct.Struct("<III")
"""Magnification, tiles, CRC-32 of what follows: (tiles,) int32 rows, (tiles, D) float16 features"""
_DIGEST = 32


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
    """

    def __init__(self, path: Path, digest: bytes, counts: Mapping[int, int], dim: int):
        self._path, self._counts, self._dim = path, counts, dim
        self._file: int | None = None
        self.known: list[tuple[int, np.ndarray, np.ndarray]] = []
        """(magnification, (n,) rows, (n, D) float16) of an earlier run; the reader takes them and clears the list"""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            end = self._read(digest)
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
            if not end:
                os.write(self._file, digest)
        except OSError:
            self.remove()

    def add(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        """Keep features of tiles.

        Args:
            magnification: Of the tiles.
            rows: (n,) int, their rows.
            features: (n, D) float16.
        """
        if self._file is None:
            return
        body = np.asarray(rows, np.int32).tobytes() + np.ascontiguousarray(features, np.float16).tobytes()
        record = _RECORD.pack(magnification, len(rows), zlib.crc32(body)) + body
        try:
            whole = os.write(self._file, record) == len(record)
        except OSError:
            whole = False
        if not whole:  # a full disk needs what this takes
            self.remove()

    def remove(self) -> None:
        """The slide is in the store, or will not be."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # what is left is tidied away with other leftovers, or not believed

    def _read(self, digest: bytes) -> int:
        """Take what is whole; the byte behind it, 0 if nothing is."""
        content = memoryview(self._path.read_bytes())
        if content[:_DIGEST] != digest:
            return 0
        end = _DIGEST
        for magnification, rows, features, after in self._records(content):
            self.known.append((magnification, rows, features))
            end = after
        return end

    def _records(self, content: memoryview) -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
        start = _DIGEST
        while start + _RECORD.size <= len(content):
            magnification, n, crc = _RECORD.unpack_from(content, start)
            body = content[start + _RECORD.size : start + _RECORD.size + n * (4 + 2 * self._dim)]
            if not n or len(body) != n * (4 + 2 * self._dim) or zlib.crc32(body) != crc:
                return
            rows, features = np.frombuffer(body[: 4 * n], np.int32), np.frombuffer(body[4 * n :], np.float16)
            if rows.min() < 0 or rows.max() >= self._counts.get(magnification, 0):
                return
            start += _RECORD.size + len(body)
            yield magnification, rows, features.reshape(n, self._dim), start


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

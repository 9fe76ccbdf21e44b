"""Opens text files of hospitals and portals, plain or compressed, and says what a file is that cannot be read."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from dmml.cohort.tables.file_sniffing import describe_non_text
from dmml.errors import InputError


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, a `.gz` or a `.zip` of one file, in UTF-8 or in UTF-16, the "Unicode text" of spreadsheets.

    Raises:
        InputError: The file does not exist or cannot be read, its compression does not match its ending, or it is not
            text.
    """
    try:
        with _open_bytes(path) as raw:
            encoding = "utf-16" if raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
            with io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
                yield text
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; check the path (relative paths start at the working directory)"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, but a file is expected here; name the file in it") from None
    except PermissionError:
        raise InputError(f"{path}: you have no permission to read this file; change its permissions") from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError):
        raise InputError(
            f"{path}: is damaged, or not compressed as its name says; download it again, or correct its name"
        ) from None
    except UnicodeDecodeError:
        with path.open("rb") as raw:
            raise InputError(f"{path}: {describe_non_text(raw.read(4096))}") from None


def _open_bytes(path: Path) -> io.BufferedReader | gzip.GzipFile | zipfile.ZipExtFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix != ".zip":
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise InputError(
            f"{path}: contains {len(members)} files; zip the table alone, or unpack it and name the table itself"
        )
    if archive.getinfo(members[0]).flag_bits & 1:
        raise InputError(f"{path}: is protected by a password; unpack it, and name the table itself")
    return cast("zipfile.ZipExtFile", archive.open(members[0]))  # typeshed has IO[bytes], which lacks `peek`

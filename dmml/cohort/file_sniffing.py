"""Recognises files that are given as text tables but are not: workbooks, archives, web pages, Git LFS pointers."""

from __future__ import annotations

import zlib

_BINARY = (
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", "save its sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "is gzipped", "let its name end with .gz"),
    (b"PAR1", "is a parquet file", "save it as CSV; only RNA may be parquet, named .parquet"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it, or pack it as .gz or .zip"),
    (b"BZh", "is compressed with bzip2", "unpack it, or pack it as .gz or .zip"),
    (b"\x89HDF", "is an HDF5 file", "give its values as text (of kallisto, abundance.tsv)"),
    (b"%PDF", "is a PDF", "give the table itself as CSV"),
)
_R_OBJECT = (b"X\n\x00", b"RDX", b"RDA")
"""First bytes of .rds and .RData files after decompression."""
_TEXT = (
    (("<!doctype", "<html", "<?xml"), "is a web page or XML, no table", "what was downloaded is an error page; fetch it again"),
    (("version https://git-lfs",), "is a pointer of Git LFS, no table", "fetch the file itself (git lfs pull)"),
    (("{", "["), "is JSON, no table", "give a CSV or TSV"),
)  # fmt: skip


def not_text(head: bytes) -> str:
    """Describe a file that is not readable text, and what to do about it.

    Args:
        head: The first bytes of the file, at least 64 unless it is shorter.
    """
    if head.startswith(b"PK\x03\x04"):
        workbook = b"[Content_Types].xml" in head or b"_rels/" in head or b"xl/" in head
        what = (
            ("is an Excel workbook", "save its sheet as CSV in UTF-8")
            if workbook
            else ("is a zip archive", "let its name end with .zip")
        )
        return "; ".join(what)
    if head.startswith(b"\x1f\x8b") and _start_of_gzip(head).startswith(_R_OBJECT):
        return "is an R object; export its table with write.csv"
    for signature, what, way in _BINARY:
        if head.startswith(signature):
            return f"{what}; {way}"
    return "is not UTF-8 text; save it as CSV in UTF-8 encoding"


def _start_of_gzip(head: bytes) -> bytes:
    """Decompress the first bytes of a gzipped file; empty if they are damaged."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
    except zlib.error:
        return b""


def no_table(first_line: str) -> str | None:
    """Describe a text that is not a table, judged by its first line, and what to do about it; None if it may be one."""
    start = first_line.lstrip("\ufeff \t").lower()
    return next((f"{what}; {way}" for starts, what, way in _TEXT if start.startswith(starts)), None)

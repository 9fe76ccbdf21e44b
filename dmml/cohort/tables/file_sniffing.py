"""Recognises files that are given as text tables but are not: workbooks, archives, web pages, Git LFS pointers."""

from __future__ import annotations

import zlib

_BINARY = (
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", "save its sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "is gzipped", "rename it, so that its name ends with .gz"),
    (b"PAR1", "is a parquet file", "save it as CSV; only RNA may be parquet, under a name that ends with .parquet"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it, or compress it as .gz or .zip"),
    (b"BZh", "is compressed with bzip2", "unpack it, or compress it as .gz or .zip"),
    (b"\x89HDF", "is an HDF5 file", "export its values as text (kallisto also writes abundance.tsv)"),
    (b"%PDF", "is a PDF", "save the table itself as CSV"),
)
_R_OBJECT = (b"X\n\x00", b"RDX", b"RDA")
"""First bytes of .rds and .RData files after decompression."""
_TEXT = (
    (("<!doctype", "<html", "<?xml"), "is a web page or XML, not a table", "the server probably sent an error page; download it again"),
    (("version https://git-lfs",), "is a pointer of Git LFS, not a table", "get the file itself with `git lfs pull`"),
    (("{", "["), "is JSON, not a table", "save it as CSV or TSV"),
)  # fmt: skip


def describe_non_text(head: bytes) -> str:
    """Describe a file that is not readable text, and what to do about it.

    Args:
        head: The first bytes of the file, at least 64 unless it is shorter.
    """
    if head.startswith(b"PK\x03\x04"):
        if b"[Content_Types].xml" in head or b"_rels/" in head or b"xl/" in head:
            return "is an Excel workbook; save its sheet as CSV in UTF-8"
        return "is a zip archive; rename it, so that its name ends with .zip"
    if head.startswith(b"\x1f\x8b") and _start_of_gzip(head).startswith(_R_OBJECT):
        return "is an R object; export its table with write.csv"
    for signature, description, remedy in _BINARY:
        if head.startswith(signature):
            return f"{description}; {remedy}"
    return "is not UTF-8 text; save it as CSV in UTF-8 encoding"


def _start_of_gzip(head: bytes) -> bytes:
    """Decompress the first bytes of a gzipped file; empty if they are damaged."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
    except zlib.error:
        return b""


def describe_non_table(first_line: str) -> str | None:
    """Describe a text that is not a table, judged by its first line, and what to do about it; None if it may be one."""
    start = first_line.lstrip("\ufeff \t").lower()
    return next((f"{description}; {remedy}" for starts, description, remedy in _TEXT if start.startswith(starts)), None)

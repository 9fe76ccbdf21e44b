"""Slides as DICOM from the Imaging Data Commons: found in the index that `idc-index-data` ships, read from its bucket.

The package's wheel contains the index of all series (74 MB), so finding the slides needs no network. The objects of a
series are listed with sizes and md5 by Google Cloud Storage's JSON API, which needs no account for public buckets:
https://cloud.google.com/storage/docs/json_api/v1/objects/list. `idc-index` itself is not used: it requires
pandas 2.2 and downloads with a program of its own, which verifies nothing that can be resumed by file.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from dmml.cohort.fetch.fetch_manifest import FetchManifest
from dmml.cohort.fetch.http_client import HttpClient
from dmml.cohort.fetch.remote_file import RemoteFile, checked_file, is_uuid
from dmml.errors import InputError

STORAGE = "https://storage.googleapis.com"
_GOOGLE_BUCKETS = {"idc-open-data-two": "idc-open-idc1", "idc-open-data-cr": "idc-open-cr"}
"""Google's names of buckets that differ from Amazon's, which the index has"""
_DIAGNOSTIC = re.compile(r"FFPE HE TP (DX\d+)")
"""Description of a diagnostic slide: embedded in paraffin, H&E, primary tumor"""
_BARCODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{2,60}")
_COLUMNS = ["PatientID", "SeriesDescription", "aws_bucket", "crdc_series_uuid", "series_size_MB", "instanceCount"]


@dataclass(frozen=True)
class Series:
    """A slide: one DICOM series."""

    uuid: str
    patient: str
    slide: str
    """DX1, DX2, …"""
    bucket: str
    size: int
    """Bytes, rounded as in the index"""
    n_files: int

    @property
    def folder(self) -> str:
        """Name of the slide's folder."""
        return f"{self.patient}-{self.slide}.{self.uuid}"

    def as_one_file(self) -> RemoteFile:
        """The whole slide as one file with the size of the index, for a plan."""
        return RemoteFile(self.uuid, f"{self.folder}.dcm", "slides", self.folder, self.size, None, "")

    def url(self, storage: str, instance: str) -> str:
        """Address of one of its files."""
        return f"{storage.rstrip('/')}/{self.bucket}/{self.uuid}/{instance}.dcm"


def index_path() -> tuple[Path, str]:
    """Path and version of the index.

    Raises:
        InputError: `idc-index-data` is not installed.
    """
    try:
        import idc_index_data
    except ImportError:
        raise InputError("--source idc needs the extra `idc`: pip install 'dmml[idc]'") from None
    path = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    if path is None:
        raise InputError("--source idc: this idc-index-data contains no index; install another version of it")
    return Path(path), str(idc_index_data.__version__)


def find_series(index: Path, project: str) -> list[Series]:
    """The diagnostic slides of a project, in the order of their ids.

    Args:
        index: The index, a parquet file.
        project: The GDC's name of the project, e.g. TCGA-LUAD; the IDC's collection is tcga_luad.

    Raises:
        InputError: The index has no such collection, or is not of the expected form.
    """
    import pyarrow.parquet as pq

    collection = project.lower().replace("-", "_")
    try:
        rows = pq.read_table(
            index, columns=_COLUMNS, filters=[("collection_id", "=", collection), ("Modality", "=", "SM")]
        ).to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{index}: is no index of the IDC that can be read ({error}); install the extra idc again"
        ) from None
    if not rows:
        raise InputError(f"{project}: the IDC has no slides of this project; take --source gdc")
    series = []
    for row in rows:
        slide = _DIAGNOSTIC.fullmatch(row["SeriesDescription"] or "")
        uuid, patient = row["crdc_series_uuid"], row["PatientID"]
        if slide and is_uuid(uuid) and _BARCODE.fullmatch(patient or ""):
            bucket = _GOOGLE_BUCKETS.get(row["aws_bucket"], row["aws_bucket"])
            size = round(1e6 * row["series_size_MB"])
            series.append(Series(uuid, patient, slide[1], bucket, size, row["instanceCount"]))
    return sorted(series, key=lambda one: one.uuid)


async def list_objects(client: HttpClient, series: Series, storage: str = STORAGE) -> list[RemoteFile]:
    """The files of a series, with size and md5 where the bucket states them.

    Raises:
        InputError: The answer does not have the form of Google's, or the series has another number of files than in
            the index.
    """
    storage = storage.rstrip("/")
    files: list[RemoteFile] = []
    token: str | None = None
    while True:
        query = {"prefix": f"{series.uuid}/", "fields": "items(name,size,md5Hash),nextPageToken"}
        url = f"{storage}/storage/v1/b/{series.bucket}/o?{urlencode(query | ({'pageToken': token} if token else {}))}"
        page = await client.get_json(url)
        if not isinstance(page, dict) or not isinstance(page.get("items", []), list):
            raise InputError(f"{url}: the answer does not have the form of Google Cloud Storage's; check --idc-storage")
        files += [_file(item, series, storage, url) for item in page.get("items", [])]
        token = page.get("nextPageToken")
        if not token:
            break
    if len(files) != series.n_files:
        raise InputError(
            f"slide {series.folder}: has {len(files)} files in the bucket, but {series.n_files} in the index; update the "
            "index: pip install --upgrade idc-index-data"
        )
    return files


def recorded_files(
    series: Sequence[Series], manifest: FetchManifest, storage: str = STORAGE
) -> dict[str, list[RemoteFile]]:
    """{uuid of a series: its files}, for the series that a manifest of the same index lists in full."""
    entries = defaultdict(list)
    for entry in manifest.of_kind("slides").values():
        entries[Path(entry.path).parent.name].append(entry)
    return {
        one.uuid: [
            RemoteFile(
                entry.id, Path(entry.path).name, "slides", one.folder, entry.size, entry.md5, one.url(storage, entry.id)
            )
            for entry in entries[one.folder]
        ]
        for one in series
        if len(entries[one.folder]) == one.n_files
    }


def _file(item: object, series: Series, storage: str, url: str) -> RemoteFile:
    key = item.get("name") if isinstance(item, dict) else None
    match = re.fullmatch(r"([0-9a-f-]{36})/([0-9a-f-]{36})\.dcm", key if isinstance(key, str) else "")
    if not match or match[1] != series.uuid:
        raise InputError(f"{url}: lists {key!r}, which is no DICOM file of this series; check --idc-storage")
    assert isinstance(item, dict)
    size = item.get("size")  # Google writes 64-bit numbers as text
    return checked_file(
        match[2],
        f"{series.patient}-{series.slide}.{match[2]}.dcm",
        "slides",
        series.folder,
        int(size) if isinstance(size, str) and size.isdecimal() else size,
        _hexadecimal(item.get("md5Hash")),
        series.url(storage, match[2]),
    )


def _hexadecimal(md5: object) -> str | None:
    """An md5 that Google writes in base64; None if it states none, as for objects that were composed of parts."""
    try:
        return base64.b64decode(md5, validate=True).hex() if isinstance(md5, str) else None
    except binascii.Error:
        return md5 if isinstance(md5, str) else None  # refused by `checked_file`

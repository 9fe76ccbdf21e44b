"""Questions to the GDC's open API: which projects there are, which open files a project has, and its clinical data.

Form of requests and answers: https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/ and
https://docs.gdc.cancer.gov/API/Users_Guide/Downloading_Files/. Answers are checked for every field that is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dmml.cohort.fetch.http_client import HttpClient
from dmml.cohort.fetch.remote_file import RemoteFile, checked_file, is_uuid
from dmml.errors import InputError

API = "https://api.gdc.cancer.gov"
PAGE = 500
"""Records per request"""
_FILTERS = {
    "slides": {"files.data_type": "Slide Image", "files.experimental_strategy": "Diagnostic Slide"},
    "rna": {
        "files.data_type": "Gene Expression Quantification",
        "files.analysis.workflow_type": "STAR - Counts",
    },
}
_FIELDS = (
    "file_id", "file_name", "file_size", "md5sum", "access", "data_category", "data_type", "cases.submitter_id",
    "cases.samples.submitter_id", "cases.samples.sample_type", "cases.samples.tissue_type",
    "cases.samples.tumor_descriptor",
)  # fmt: skip
_CLINICAL = "project,demographic,diagnoses,follow_ups"
"""Field groups of a case that `read_gdc_clinical` reads"""
_LABEL = re.compile(r"[\w .,()+-]{0,200}", re.ASCII)
"""Barcodes and words of a sample sheet; neither tabs nor line breaks"""


class GdcApi:
    """The API behind one address.

    Args:
        client: The client that asks.
        url: Address of the API, without a slash at its end.
    """

    def __init__(self, client: HttpClient, url: str = API):
        self._client = client
        self.url = url.rstrip("/")

    async def release(self) -> str:
        """Name of the data release that the API serves, e.g. `Data Release 41.0 - August 28, 2024`."""
        status = _mapping(await self._client.get_json(f"{self.url}/status"), f"{self.url}/status")
        return _text(status, "data_release", f"{self.url}/status")

    async def projects(self) -> list[str]:
        """Ids of all projects."""
        url = f"{self.url}/projects"
        return [_text(hit, "project_id", url) for hit in await self._hits("projects", {"fields": "project_id"})]

    async def files(self, project: str, kind: str) -> list[RemoteFile]:
        """The open files of a project of one kind, `slides` or `rna`, in the order of their ids.

        Raises:
            InputError: A record lacks a field, is not open, or has a name that is no plain file name.
        """
        wanted = {"cases.project.project_id": project, "files.access": "open", **_FILTERS[kind]}
        query = {"filters": _all_of(wanted), "fields": ",".join(_FIELDS), "sort": "file_id:asc"}
        files = [self._file(hit, project, kind) for hit in await self._hits("files", query)]
        if len({file.id for file in files}) < len(files):
            raise InputError(f"{self.url}/files: the list changed while it was read; run the command again")
        return files

    async def cases(self, project: str) -> list[Mapping[str, object]]:
        """The cases of a project with their clinical data, as the portal's JSON export has them."""
        query = {
            "filters": _all_of({"project.project_id": project}),
            "fields": "submitter_id",
            "expand": _CLINICAL,
            "sort": "submitter_id:asc",
        }
        hits = await self._hits("cases", query)
        for hit in hits:
            _text(hit, "submitter_id", f"{self.url}/cases")
        return hits

    async def _hits(self, endpoint: str, query: Mapping[str, object]) -> list[Mapping[str, object]]:
        """All records of a query, page by page."""
        url = f"{self.url}/{endpoint}"
        hits: list[Mapping[str, object]] = []
        while True:
            page = {**query, "format": "JSON", "from": len(hits), "size": PAGE}
            data = _mapping(_mapping(await self._client.get_json(url, page), url).get("data"), url)
            records, pagination = data.get("hits"), _mapping(data.get("pagination"), url)
            total = pagination.get("total")
            if not isinstance(records, list) or not isinstance(total, int):
                raise InputError(f"{url}: the answer has no list of hits with their total; {_NO_GDC}")
            hits += [_mapping(record, url) for record in records]
            if len(hits) >= total:
                return hits
            if not records:
                raise InputError(f"{url}: the answer ends after {len(hits)} of {total} records; run the command again")

    def _file(self, hit: Mapping[str, object], project: str, kind: str) -> RemoteFile:
        url = f"{self.url}/files"
        id = _text(hit, "file_id", url)
        if not is_uuid(id):
            raise InputError(f"{url}: the file id {id!r} is no UUID; {_NO_GDC}")
        if hit.get("access") != "open":
            raise InputError(f"{url}: file {id} is not open access, although only open files were requested; {_NO_GDC}")
        file = checked_file(
            id, hit.get("file_name"), kind, id, hit.get("file_size"), _text(hit, "md5sum", url), f"{self.url}/data/{id}",
            _sheet_row(hit, project, url) if kind == "rna" else None,
        )  # fmt: skip
        if file.path.suffix == ".dcm":
            raise InputError(f"{url}: slide {file.name} is no .svs file; {_NO_GDC}")
        return file


_NO_GDC = "is this the address of the GDC's API (--api)?"


def _sheet_row(hit: Mapping[str, object], project: str, url: str) -> dict[str, str]:
    """The row of a file in the portal's sample sheet; several cases or samples are separated by commas."""
    cases = [_mapping(case, url) for case in _list(hit, "cases", url)]
    samples = [_mapping(sample, url) for case in cases for sample in _list(case, "samples", url)]
    columns: dict[str, list[object]] = {
        "File ID": [hit.get("file_id")],
        "File Name": [hit.get("file_name")],
        "Data Category": [hit.get("data_category")],
        "Data Type": [_text(hit, "data_type", url)],
        "Project ID": [project],
        "Case ID": [*(_text(case, "submitter_id", url) for case in cases)],
        "Sample ID": [*(_text(sample, "submitter_id", url) for sample in samples)],
        "Sample Type": [sample.get("sample_type") for sample in samples],
        "Tissue Type": [sample.get("tissue_type") for sample in samples],
        "Tumor Descriptor": [sample.get("tumor_descriptor") for sample in samples],
    }
    row = {name: ", ".join(str(value or "") for value in values) for name, values in columns.items()}
    for name, value in row.items():
        if not _LABEL.fullmatch(value):
            raise InputError(f"{url}: {value!r} is no {name}; {_NO_GDC}")
    return row


def _all_of(values: Mapping[str, str]) -> dict[str, object]:
    """A filter of the GDC: every field has its value."""
    terms = [{"op": "in", "content": {"field": field, "value": [value]}} for field, value in values.items()]
    return {"op": "and", "content": terms}


def _mapping(value: object, url: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InputError(f"{url}: the answer does not have the form of the GDC's; {_NO_GDC}")
    return value


def _list(record: Mapping[str, object], field: str, url: str) -> list[object]:
    value = record.get(field)
    if not isinstance(value, list) or not value:
        raise InputError(f"{url}: a record has no {field}; {_NO_GDC}")
    return value


def _text(record: Mapping[str, object], field: str, url: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value:
        raise InputError(f"{url}: a record has no {field}; {_NO_GDC}")
    return value

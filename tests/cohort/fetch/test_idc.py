"""Slides as DICOM from the Imaging Data Commons: found in an index of its form, read from a bucket like Google's."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gdc_server import uuid_of

from dmml.cohort.fetch import idc
from dmml.cohort.fetch.fetch_cohort import FetchRequest, download, prepare
from dmml.cohort.fetch.http_client import HttpSettings
from dmml.errors import InputError


def series(patient, description="FFPE HE TP DX1", collection="tcga_luad", bucket="idc-open-data", n=3, modality="SM"):
    return {
        "collection_id": collection,
        "PatientID": patient,
        "Modality": modality,
        "SeriesDescription": description,
        "aws_bucket": bucket,
        "crdc_series_uuid": uuid_of(f"{patient} {description}"),
        "series_size_MB": 1.5,
        "instanceCount": n,
    }


@pytest.fixture
def index(server):
    """Two diagnostic slides, one of them in a bucket that Google calls otherwise, among series of other kinds."""
    rows = [
        series("TCGA-44-0001"),
        series("TCGA-44-0002", "FFPE HE TP DX2", bucket="idc-open-data-two"),
        series("TCGA-44-0003", "Frozen HE TP TS1"),
        series("TCGA-44-0004", modality="CT"),
        series("TCGA-21-0005", collection="tcga_lusc"),
        series("../TCGA-21-0006"),
    ]
    rng = np.random.default_rng(0)
    for row in rows:
        bucket = {"idc-open-data-two": "idc-open-idc1"}.get(row["aws_bucket"], row["aws_bucket"])
        for k in range(row["instanceCount"]):
            uuid = row["crdc_series_uuid"]
            server.add_object(bucket, f"{uuid}/{uuid_of(f'{uuid} {k}')}.dcm", rng.bytes(4000 + k))
    pd.DataFrame(rows).to_parquet("idc_index.parquet")
    return Path("idc_index.parquet")


def request(server, index, **more):
    return FetchRequest(
        "TCGA-LUAD", Path("luad"), ("slides",), source="idc", api=server.url, storage=server.url, index=index,
        http=HttpSettings(timeout=1, attempts=3, max_wait=0.02), **more,
    )  # fmt: skip


def test_diagnostic_slides_are_fetched_verified_and_fetched_once(server, index):
    server.faults = {1: "truncate", 3: "wrong"}
    commands = download(prepare(request(server, index)))
    files = sorted(Path("luad/slides").rglob("*.dcm"))
    assert len(files) == 6
    contents = {key.split("/")[1]: value for objects in server.objects.values() for key, value in objects.items()}
    for path in files:
        patient, uuid = path.name.split(".")[:2]
        assert path.read_bytes() == contents[f"{uuid}.dcm"]
        assert path.parent.name.startswith(patient)
    assert {path.name.split(".")[0] for path in files} == {"TCGA-44-0001-DX1", "TCGA-44-0002-DX2"}
    assert commands == ["dmml extract luad/slides --out luad/features.zarr"]
    assert server.n_downloads == 8
    assert not any(path.startswith("POST") for path in server.requests)  # the GDC is not asked for anything
    server.requests.clear()
    download(prepare(request(server, index)))
    assert prepare(request(server, index), dry_run=True).plan.n_present == 6
    assert server.requests == []


def test_a_number_of_slides_and_a_plan_need_no_network(server, index):
    plan = prepare(request(server, index, n_slides=1), dry_run=True).plan
    assert plan.files == {"slides": (1, 1_500_000)}
    assert server.requests == []
    assert not Path("luad").exists()


def test_a_smaller_number_of_slides_later_withdraws_nothing(server, index):
    download(prepare(request(server, index)))
    download(prepare(request(server, index, n_slides=1)))
    assert len(list(Path("luad/slides").iterdir())) == 2


def test_objects_without_md5_are_checked_by_size_and_counted(server, index, caplog):
    uuid = uuid_of("TCGA-44-0001 FFPE HE TP DX1")
    items = [{"name": f"{uuid}/{uuid_of(f'{uuid} {k}')}.dcm", "size": str(4000 + k)} for k in range(3)]
    server.overridden["/storage/v1/b/idc-open-data/o"] = (200, json.dumps({"items": items}).encode(), {})
    download(prepare(request(server, index)))
    assert "3 files have no md5" in caplog.text
    assert len(list(Path("luad/slides").rglob("*.dcm"))) == 6


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ([], "the form of Google Cloud Storage"),
        ({"items": [{"name": "../x.dcm", "size": "1"}]}, "no DICOM file of this series"),
        ({"items": []}, "has 0 files in the bucket, but 3 in the index"),
    ],
)
def test_answers_that_are_not_the_buckets_are_refused(server, index, page, message):
    server.overridden["/storage/v1/b/idc-open-data/o"] = (200, json.dumps(page).encode(), {})
    with pytest.raises(InputError, match=message):
        prepare(request(server, index))


def test_an_unknown_project_and_an_index_of_another_form_are_refused(index):
    with pytest.raises(InputError, match="the IDC has no slides of this project"):
        idc.find_series(index, "TCGA-XXXX")
    pd.DataFrame({"a": [1]}).to_parquet("other.parquet")
    Path("text.parquet").write_text("no parquet")
    for name in ("other.parquet", "text.parquet", "missing.parquet"):
        with pytest.raises(InputError, match="is no index of the IDC"):
            idc.find_series(Path(name), "TCGA-LUAD")


def test_rna_of_the_gdc_joins_slides_of_the_idc(luad, index, fetch):
    download(prepare(request(luad, index)))
    slides = set(Path("luad/slides").rglob("*.dcm"))
    prepared = prepare(replace(request(luad, index), kinds=("rna", "clinical"), source="gdc"))
    assert "dmml extract luad/slides --out luad/features.zarr" in download(prepared)
    assert set(Path("luad/slides").rglob("*.*cm")) == slides
    assert len(list(Path("luad/rna").rglob("*.tsv"))) == 5
    code, _, err = fetch()
    assert code == 2
    assert "its slides are from --source idc" in err


def test_a_folder_with_slides_of_the_other_source_is_refused(luad, index, fetch):
    fetch("--slides")
    with pytest.raises(InputError, match="its slides are from --source gdc"):
        prepare(request(luad, index))


def test_a_series_is_opened_as_one_slide_where_it_was_put(server, shared_data):
    from openslide import OpenSlide

    row = series("TCGA-44-0001", n=2)
    originals = sorted((shared_data / "slides" / "openslide_fixtures").glob("boxes_*.dcm"))
    for original in originals:
        uuid = row["crdc_series_uuid"]
        server.add_object("idc-open-data", f"{uuid}/{uuid_of(original.name)}.dcm", original.read_bytes())
    pd.DataFrame([row]).to_parquet("idc_index.parquet")
    download(prepare(request(server, Path("idc_index.parquet"))))
    with OpenSlide(originals[0]) as expected, OpenSlide(next(Path("luad/slides").rglob("*.dcm"))) as slide:
        assert slide.level_dimensions == expected.level_dimensions


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    with pytest.raises(InputError, match=r"pip install 'dmml\[idc\]'"):
        idc.index_path()


@pytest.mark.slow
def test_the_index_of_the_installed_package_has_the_diagnostic_slides_of_tcga_luad():
    path, version = idc.index_path()
    slides = idc.find_series(path, "TCGA-LUAD")
    assert int(version.split(".")[0]) >= 24
    assert len(slides) > 500
    assert len({one.patient for one in slides}) > 450
    assert all(one.folder.startswith("TCGA-") for one in slides)
    assert 3e11 < sum(one.size for one in slides) < 8e11
    assert {one.bucket for one in slides} <= {"idc-open-data", "idc-open-idc1", "idc-open-cr"}

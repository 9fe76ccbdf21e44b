"""`dmml cohort fetch` against the loopback server: what it fetches, what it says, and what it refuses."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest

from dmml.cohort.fetch.folder_lock import folder_lock


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_open_diagnostic_slides_rna_and_clinical_data_are_fetched_and_verified(luad, fetch):
    code, out, err = fetch()
    assert (code, err) == (0, "")
    manifest = json.loads(Path("luad/fetch_manifest.json").read_text())
    assert manifest["releases"] == {"gdc": luad.release}
    for entry in manifest["files"]:
        content = (Path("luad") / entry["path"]).read_bytes()
        assert (entry["size"], entry["md5"]) == (len(content), hashlib.md5(content).hexdigest())
        assert entry["state"] == "complete"
    kinds = pd.Series([entry["kind"] for entry in manifest["files"]]).value_counts().to_dict()
    assert kinds == {"slides": 5, "rna": 5, "clinical": 1}
    slides = [entry for entry in manifest["files"] if entry["kind"] == "slides"]
    assert all(entry["path"] == f"slides/{entry['id']}/{entry['name']}" for entry in slides)  # as gdc-client has it
    sheet = pd.read_csv("luad/gdc_sample_sheet.tsv", sep="\t", dtype=str)
    assert sheet["Case ID"].tolist() == [luad.files[id]["cases"][0]["submitter_id"] for id in sheet["File ID"]]
    assert not list(Path("luad").rglob("*.partial"))
    assert luad.agents == {next(iter(luad.agents))}
    assert next(iter(luad.agents)).startswith("dmml/")
    assert "to download: 10 files, 0.00 GB" in out


def test_a_second_run_downloads_nothing(luad, fetch):
    fetch()
    n_downloads, before = luad.n_downloads, files_of("luad")
    luad.requests.clear()
    code, out, _ = fetch()
    assert code == 0
    assert luad.n_downloads == n_downloads == 10
    assert "POST /cases" not in luad.requests
    assert "in the folder: 10 files" in out
    assert "to download: 0 files" in out
    assert files_of("luad") == before


def test_a_missing_or_shortened_file_is_fetched_again_and_nothing_else(luad, fetch):
    fetch()
    first, second = sorted(Path("luad/slides").rglob("*.svs"))[:2]
    content = second.read_bytes()
    first.unlink()
    second.write_bytes(content[:100])
    n_downloads = luad.n_downloads
    assert fetch()[0] == 0
    assert luad.n_downloads == n_downloads + 2
    assert first.is_file()
    assert second.read_bytes() == content


def test_files_of_gdc_client_are_taken_over_if_their_md5_is_right(luad, fetch):
    for number, id in enumerate(luad.files):
        file = luad.files[id]
        if file["data_type"] == "Slide Image" and file["access"] == "open":
            path = Path("luad/slides") / id / file["file_name"]
            path.parent.mkdir(parents=True)
            path.write_bytes(luad.contents[id] if number else bytes(file["file_size"]))  # the first one is damaged
    assert fetch("--slides")[0] == 0
    assert luad.n_downloads == 1


def test_a_dry_run_plans_and_writes_nothing(luad, fetch):
    code, out, _ = fetch("--dry-run", "--rate", "0.001")
    assert code == 0
    assert luad.n_downloads == 0
    assert "slides: 5 files" in out
    assert "0.0 hours at 0.001 MB/s" in out
    assert not Path("luad").exists()


def test_hours_follow_from_the_rate(luad, fetch):
    for id in luad.files:
        luad.files[id]["file_size"] = 36_000_000_000
    _, out, _ = fetch("--dry-run", "--slides", "--rate", "100")
    assert "slides: 5 files, 180.00 GB" in out
    assert "to download: 5 files, 180.00 GB, 0.5 hours at 100 MB/s" in out


def test_a_larger_number_of_slides_adds_to_the_slides_of_a_smaller_one(luad, fetch):
    fetch("--slides", 2)
    first = set(Path("luad/slides").rglob("*.svs"))
    assert len(first) == 2
    fetch("--slides", 1)
    assert set(Path("luad/slides").rglob("*.svs")) == first
    fetch("--slides", 4)
    assert set(Path("luad/slides").rglob("*.svs")) > first
    assert luad.n_downloads == 4
    fetch("--slides")
    assert len(set(Path("luad/slides").rglob("*.svs"))) == luad.n_downloads == 5
    code, out, _ = fetch("--rna")  # other kinds join what is in the folder
    assert code == 0
    assert "slides: 5 files" in out
    assert luad.n_downloads == 10


def test_a_release_that_changed_files_is_noticed_and_followed_on_request(luad, fetch):
    fetch()
    luad.release = "Data Release 42.0 - January 30, 2025"
    assert fetch()[0] == 0  # no file of the folder changed
    manifest = json.loads(Path("luad/fetch_manifest.json").read_text())
    assert manifest["releases"]["gdc"] == luad.release

    luad.release = "Data Release 43.0 - May 7, 2025"
    withdrawn = next(id for id in luad.files if luad.files[id]["data_type"] == "Slide Image")
    name = luad.files.pop(withdrawn)["file_name"]
    luad.add_slide("TCGA-55-0009", b"new")
    changed = next(id for id in luad.files if "augmented" in luad.files[id]["file_name"])
    luad.contents[changed] = b"corrected"
    luad.files[changed] |= {"file_size": 9, "md5sum": hashlib.md5(b"corrected").hexdigest()}
    before = files_of("luad")
    code, _, err = fetch()
    assert code == 2
    assert "(1 added, 1 withdrawn, 1 changed)" in err
    assert "Data Release 42.0" in err
    assert "Data Release 43.0" in err
    assert "--update" in err
    assert files_of("luad") == before

    n_downloads = luad.n_downloads
    luad.requests.clear()
    assert fetch("--update")[0] == 0
    assert luad.n_downloads == n_downloads + 2
    assert "POST /cases" in luad.requests  # clinical data of the new release
    assert Path("luad/withdrawn/slides", withdrawn, name).is_file()
    assert not Path("luad/slides", withdrawn).exists()
    assert Path("luad", "rna", changed, luad.files[changed]["file_name"]).read_bytes() == b"corrected"
    assert fetch()[0] == 0


def refused(result, *words):
    code, _, err = result
    assert code == 2
    assert err.startswith("dmml: error: ")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err


def test_what_cannot_be_fetched_is_refused_in_one_line(luad, fetch):
    refused(fetch(project="TCGA-LAUD"), "no project 'TCGA-LAUD'", "did you mean TCGA-LUAD")
    refused(fetch(project="../x"), "no project '../x'")
    refused(fetch("--slides", project="CPTAC-3"), "no open slides of this project")
    refused(fetch("--connections", 100), "--connections 100")
    refused(fetch("--attempts", 0), "--attempts 0")
    refused(fetch("--rate", "nan"), "--rate nan")
    refused(fetch("--slides", -1), "--slides -1")
    refused(fetch("--slides", 0), "--slides 0")
    refused(fetch(api="ftp://x"), "must begin with https://")
    refused(fetch(api="http://127.0.0.1:9"), "cannot be reached")
    assert luad.n_downloads == 0
    assert files_of(".") == []


def test_a_folder_with_another_cohort_is_refused(luad, fetch):
    fetch("--rna")
    refused(fetch("--slides", project="TCGA-LUSC"), "holds TCGA-LUAD, not TCGA-LUSC")
    Path("luad/fetch_manifest.json").write_text("{}")
    refused(fetch(), "fetch_manifest.json: is damaged", "verifies the files")


def test_a_manifest_cannot_lead_out_of_the_folder(luad, fetch):
    fetch("--rna")
    manifest = Path("luad/fetch_manifest.json")
    content = json.loads(manifest.read_text())
    content["files"][0]["path"] = "../outside"
    manifest.write_text(json.dumps(content))
    refused(fetch(), "lies outside")


def test_a_disk_that_is_too_small_is_noticed_before_the_download(luad, fetch, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 90_000))
    refused(fetch("--slides"), "0.00 GB are free", "--slides N")
    assert luad.n_downloads == 0
    assert not Path("luad").exists()
    assert fetch("--rna")[0] == 0


def test_a_folder_that_cannot_be_written_is_refused(luad, fetch):
    Path("file").write_text("")
    refused(fetch(out="file/luad"), "is a file, but a folder is needed")
    assert luad.requests == []


def test_a_folder_in_which_another_download_runs_is_refused(luad, fetch, tmp_path):
    code = "from dmml.cohort.fetch.folder_lock import folder_lock\nfrom pathlib import Path\n"
    code += "with folder_lock(Path('luad')):\n print('locked', flush=True)\n input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        refused(fetch(), "another process downloads into this folder")
        process.communicate(b"\n")
    with folder_lock(Path("luad")):
        pass
    assert luad.n_downloads == 0


@pytest.mark.parametrize(
    "name",
    ["../../x.svs", "/etc/x.svs", "a\\b.svs", ".x.svs", "x.svs\n", "x.svs/..", "", "x.exe", "a\x00.svs", None, 3],
)
def test_names_that_are_no_file_names_are_refused(luad, fetch, name):
    luad.add("x", b"x", "Slide Image", "TCGA-44-0000", file_name=name)
    refused(fetch("--slides"), "which is no name of slides")
    assert files_of(".") == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("file_id", "../../x", "is no UUID"),
        ("file_size", "12", "states the size"),
        ("file_size", -1, "states the size"),
        ("md5sum", "abc", "as md5"),
        ("md5sum", None, "no md5sum"),
    ],
)
def test_records_with_other_fields_are_refused(luad, fetch, field, value, message):
    luad.files["extra"] = {**luad.files[luad.add_slide("TCGA-44-0009", b"x")], field: value}
    refused(fetch("--slides"), message)


@pytest.mark.parametrize("case", ["TCGA\tX", "TCGA\nX", None])
def test_ids_that_would_break_the_sample_sheet_are_refused(luad, fetch, case):
    luad.add_rna(case, b"x", "x.tsv")
    refused(fetch("--rna"), "(--api)")


def test_a_list_that_changes_between_its_pages_is_refused(luad, fetch):
    luad.files["twice"] = next(file for file in luad.files.values() if file["file_name"].endswith("counts.tsv"))
    refused(fetch("--rna"), "the list changed while it was read")


def test_long_lists_are_read_page_by_page(luad, fetch, monkeypatch):
    monkeypatch.setattr("dmml.cohort.fetch.gdc_api.PAGE", 2)
    assert fetch("--rna")[0] == 0
    assert luad.requests.count("POST /files") == 3
    assert luad.n_downloads == 5


@pytest.mark.parametrize("path", ["/status", "/projects", "/files", "/cases"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>proxy</html>", "is no JSON"),
        (b"[]", "the form of the GDC"),
        (b'{"data": {"hits": [{}], "pagination": {"total": 1}}}', "a record has no"),
    ],
)
def test_answers_that_are_not_the_gdcs_are_refused(luad, fetch, path, body, message):
    luad.overridden[path] = (200, body, {})
    refused(fetch(), path, message)


def test_the_message_of_the_server_is_shown(luad, fetch):
    luad.overridden["/files"] = (400, b'{"message": "field x is unknown"}', {})
    refused(fetch(), "refuses (400 field x is unknown)")
    luad.overridden.clear()
    id = next(iter(luad.contents))
    del luad.contents[id]
    refused(fetch("--slides"), "1 of 5 files could not be downloaded", f"404 {id} not found")
    assert len(list(Path("luad/slides").rglob("*.svs"))) == 4  # the others are there


def test_a_fetch_imports_nothing_heavy_and_a_refusal_not_even_aiohttp(luad):
    script = (
        "import sys\nfrom dmml.__main__ import main\n"
        "heavy = {'torch', 'lightning', 'pandas', 'zarr', 'timm'}\n"
        "words = ['cohort', 'fetch', 'TCGA-LUAD', '--out', 'luad', '--rna', '--connections']\n"
        "assert main([*words, '99']) == 2\n"
        "assert not (heavy | {'aiohttp', 'asyncio'}) & {*sys.modules}\n"
        "assert main([*words, '2', '--api', sys.argv[1]]) == 0\n"
        "assert not heavy & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", script, luad.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

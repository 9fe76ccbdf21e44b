"""A download survives what networks and servers do, and kills; its files are complete and verified in the end."""

import asyncio
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gdc_server import FAULTS, uuid_of

from dmml.cohort.fetch.downloads import download_all
from dmml.cohort.fetch.http_client import HttpClient, HttpSettings, retry_after_seconds
from dmml.cohort.fetch.part_file import PartFile
from dmml.cohort.fetch.remote_file import checked_file

SCRIPT = "import sys; from dmml.__main__ import main; sys.exit(main(sys.argv[1:]))"


def command(server, *words):
    patience = ["--max-wait", "0.2", "--timeout", "0.5", "--attempts", "10"]
    return ["cohort", "fetch", "TCGA-LUAD", "--out", "luad", "--rna", "--api", server.url, *patience, *words]


def start(server, *words):
    """The command in a process of its own, in which dmml alone is imported."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *command(server, *words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_downloads(server, n):
    end = time.monotonic() + 20
    while server.n_downloads < n:
        assert time.monotonic() < end
        time.sleep(0.005)


def all_verified(server):
    """Check every file of the folder against what the server has, and return their number."""
    for id, content in server.contents.items():
        assert Path("luad/rna", id, server.files[id]["file_name"]).read_bytes() == content
    files = json.loads(Path("luad/fetch_manifest.json").read_text())["files"]
    assert {entry["state"] for entry in files} == {"complete"}
    assert not list(Path("luad").rglob("*.partial"))
    return len(files)


@pytest.mark.slow
def test_forty_faults_over_two_hundred_files_and_two_kills_change_nothing(server):
    rng = np.random.default_rng(0)
    for i in range(200):
        server.add_rna(f"TCGA-44-{i:04d}", rng.bytes(int(rng.integers(1, 60_000))))
    kinds = [kind for kind in FAULTS if kind not in ("429 after", "503 after", "503 date")]
    faults = [*FAULTS, "restart", *random.choices(kinds, k=40 - len(FAULTS) - 1)]
    numbers = random.sample(range(2, 200), k=len(faults))
    server.faults = dict(zip(numbers, random.sample(faults, k=len(faults)), strict=True))

    for n, kill in ((60, signal.SIGKILL), (120, signal.SIGINT)):
        process = start(server)
        wait_for_downloads(server, n)
        process.send_signal(kill)
        _, err = process.communicate(timeout=20)
        assert process.returncode == (130 if kill == signal.SIGINT else -kill), err
        names = [path.name for path in Path("luad/rna").rglob("*") if path.is_file()]
        assert len(names) < 200
        assert all(name.endswith((".tsv", ".partial")) for name in names)
    process = start(server)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert all_verified(server) == 200
    assert server.n_downloads >= 200 + len(faults) // 2  # the faults took place
    assert set(numbers) <= set(range(server.n_downloads))

    n_downloads = server.n_downloads
    process = start(server)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert server.n_downloads == n_downloads
    assert "to download: 0 files" in out


@pytest.mark.parametrize("fault", [*FAULTS, "restart"])
def test_one_fault_of_every_kind_is_overcome(server, fetch, fault):
    for i in range(3):
        server.add_rna(f"TCGA-44-000{i}", bytes(range(200)) * 100)
    server.faults = {1: fault}
    assert fetch("--rna", "--attempts", 10, "--max-wait", 0.2)[0] == 0
    assert all_verified(server) == 3
    assert server.n_downloads == (3 if fault == "slow" or fault == "no range" else 4)


def test_a_part_is_continued_where_it_ends_and_a_wrong_one_is_dropped(server, fetch):
    content = bytes(range(256)) * 100
    id = server.add_rna("TCGA-44-0001", content)
    path = Path("luad/rna", id, server.files[id]["file_name"] + ".partial")
    for part, ranges in ((content[:9000], ["bytes=9000-"]), (bytes(9000), ["bytes=9000-", None]), (content, [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.stem).unlink(missing_ok=True)
        path.write_bytes(part)
        server.ranges.clear()
        assert fetch("--rna")[0] == 0
        assert server.ranges == ranges
        assert all_verified(server) == 1
    path.with_name(path.stem).unlink()
    path.write_bytes(content + b"more")
    server.ranges.clear()
    assert fetch("--rna")[0] == 0
    assert server.ranges == [None]


def test_a_connection_that_breaks_continues_with_the_rest(server, fetch):
    content = bytes(range(256)) * 4000
    server.add_rna("TCGA-44-0001", content)
    server.faults = {0: "truncate", 1: "stall"}
    assert fetch("--rna")[0] == 0
    assert server.ranges == [None, f"bytes={len(content) // 2}-", f"bytes={len(content) * 3 // 4}-"]


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(server, fetch):
    server.add_rna("TCGA-44-0001", bytes(range(256)) * 4000)
    server.faults = {0: "truncate", 1: "no range"}
    assert fetch("--rna")[0] == 0
    assert all_verified(server) == 1


def test_a_wait_that_the_server_asks_for_holds_for_all_connections(server, fetch):
    for i in range(12):
        server.add_rna(f"TCGA-44-{i:04d}", b"x" * 100)
    server.faults = {0: "429 after"}
    started = time.monotonic()
    assert fetch("--rna")[0] == 0
    assert time.monotonic() - started >= 1
    assert server.n_downloads == 13


@pytest.mark.parametrize("n", [1, 3])
def test_a_server_is_asked_for_as_many_files_at_a_time_as_there_are_connections(server, fetch, n):
    for i in range(8):
        server.add_rna(f"TCGA-44-{i:04d}", b"x" * 100)
    server.faults = dict.fromkeys(range(8), "slow")
    assert fetch("--rna", "--connections", n)[0] == 0
    assert server.max_answering == n


def test_a_file_that_never_arrives_is_named_and_the_others_are_kept(server, fetch):
    for i in range(8):
        server.add_rna(f"TCGA-44-{i:04d}", bytes([i]) * 100)
    bad = min(server.contents)
    server.files[bad]["md5sum"] = hashlib.md5(b"another").hexdigest()
    code, _, err = fetch("--rna")
    assert code == 2
    assert "1 of 8 files could not be downloaded" in err
    assert server.files[bad]["file_name"] in err
    assert "md5" in err
    assert len(list(Path("luad/rna").rglob("*.tsv"))) == 7
    assert not Path("luad/rna", bad, server.files[bad]["file_name"]).exists()
    server.files[bad]["md5sum"] = hashlib.md5(server.contents[bad]).hexdigest()
    n_downloads = server.n_downloads
    assert fetch("--rna", "--update")[0] == 0
    assert server.n_downloads == n_downloads + 1


def test_a_server_that_is_gone_ends_the_download_soon(server, fetch):
    for i in range(40):
        server.add_rna(f"TCGA-44-{i:04d}", bytes([i]) * 100)
    server.faults = dict.fromkeys(range(10, 10_000), "reset")
    code, _, err = fetch("--rna")
    assert code == 2
    assert "30 of 40 files could not be downloaded" in err
    # Each connection gives up one file, and all but one a second; aiohttp tries a connection twice that it had kept.
    assert server.n_downloads <= 10 + 7 * 4 * 2


def test_a_full_disk_ends_the_download_in_one_line(luad, fetch, monkeypatch):
    def full(part, chunk):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.path))

    monkeypatch.setattr(PartFile, "append", full)
    code, _, err = fetch()
    assert code == 2
    assert "no space left on device" in err
    assert len(err.splitlines()) == 1


def test_a_wait_that_is_too_long_ends_the_request(server, tmp_path):
    id = server.add_rna("TCGA-44-0001", b"x")
    server.overridden[f"/data/{id}"] = (503, b"<h1>maintenance</h1>", {"Retry-After": "86400"})
    file = checked_file(id, "x.tsv", "rna", id, 1, None, f"{server.url}/data/{id}")

    async def run():
        async with HttpClient(HttpSettings()) as client:
            return await download_all([file], tmp_path, client, lambda n: None, lambda file: None)

    (failure,) = asyncio.run(run())
    assert "asks to wait 86400 s (503" in failure.reason
    assert list(tmp_path.rglob("*.*")) == []


def test_retry_after_is_read_as_seconds_or_as_a_date():
    assert retry_after_seconds("7") == 7
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_seconds(None) is retry_after_seconds("soon") is None
    assert 3600 < retry_after_seconds("Fri, 31 Dec 2199 23:59:59 GMT")


def test_ids_do_not_depend_on_the_run():
    assert uuid_of("a") == uuid_of("a") != uuid_of("b")

"""A server with the open files of a small project, and the command with waits that suit a test."""

import numpy as np
import pytest
from gdc_server import GdcServer

from dmml.__main__ import main


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with GdcServer() as running:
        yield running


@pytest.fixture
def luad(server):
    """Five patients with a slide and RNA each, among files that nobody requested."""
    rng = np.random.default_rng(0)
    for i in range(5):
        patient = f"TCGA-{44 + i}-000{i}"
        server.add_slide(patient, rng.bytes(20_000 + i))
        server.add_rna(patient, rng.bytes(3_000 + i))
        server.add_case(patient)
    server.add_slide("TCGA-44-0000", b"frozen", 2, experimental_strategy="Tissue Slide")
    server.add_slide("TCGA-44-0001", b"controlled", 3, access="controlled")
    server.add_slide("TCGA-21-0001", b"another project", project="TCGA-LUSC")
    server.add_rna("TCGA-44-0000", b"FPKM", "x.tsv", analysis={"workflow_type": "HTSeq - FPKM"})
    server.add("x.bam", b"reads", "Aligned Reads", "TCGA-44-0000")
    return server


@pytest.fixture
def fetch(server, capsys):
    """Run `dmml cohort fetch` against the server; return exit code, stdout and stderr."""

    def run(*words, project="TCGA-LUAD", out="luad", api=None):
        capsys.readouterr()
        patience = ["--max-wait", "0.02", "--timeout", "1", "--attempts", "4"]
        code = main(
            ["cohort", "fetch", project, "--out", str(out), "--api", api or server.url, *patience, *map(str, words)]
        )
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run

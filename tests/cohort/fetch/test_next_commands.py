"""The commands that `dmml cohort fetch` prints run on what it fetched, as they are printed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from drawn_slides import paint_tissue, write_slide
from gdc_downloads import star_text

from dmml.__main__ import main
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.genes.gene_names import ensembl_index
from dmml.commands.config.preflight import check
from dmml.store import FeatureStore


def commands_in(out):
    return [shlex.split(line) for line in re.findall(r"^  dmml (.*)$", out, re.MULTILINE)]


@pytest.fixture
def cohort(server, tmp_path, shared_data):
    """40 patients with RNA and outcome at five sites; the slides of four of them, one of which is a real SVS file."""
    identifiers = {symbol: identifier for identifier, symbol in ensembl_index().items()}
    sets = read_gene_sets()
    genes = [(f"{identifiers[g]}.1", g) for s in sets for g in genes_of(sets[s])[:40] if g in identifiers]
    rng = np.random.default_rng(0)
    for i in range(40):
        patient = f"TCGA-{'05 44 49 55 64'.split()[i % 5]}-{i:04d}"
        server.add_rna(patient, star_text(i, genes).encode())
        dead = bool(rng.integers(2))
        server.add_case(patient, int(rng.integers(50, 3000)), "Dead" if dead else "Alive")
        if i < 3:
            write_slide(tmp_path / "x.svs", paint_tissue(600, 600, [(50, 50, 500, 500)], seed=i))
            server.add_slide(patient, (tmp_path / "x.svs").read_bytes())
    server.add_slide("TCGA-55-0003", (shared_data / "slides" / "cmu_small_region.svs").read_bytes())
    return server


@pytest.mark.slow
def test_the_printed_commands_run(cohort, fetch, capsys):
    code, out, err = fetch(out="data/my luad")  # a name with a space needs quotes
    assert (code, err) == (0, "")
    commands = commands_in(out)
    assert [" ".join(words[:2]) for words in commands[:2]] == ["cohort gdc", "cohort split"]
    assert [words[0] for words in commands[2:]] == ["extract", "doctor", "crossval"]
    for words in commands[:-1]:
        assert main(words) == 0, words
    out = capsys.readouterr().out
    assert "40 patients with both" in out
    assert "nothing blocks a run" in out
    folder = Path("data/my luad")
    table = pd.read_csv(folder / "clinical.csv").set_index("patient_id")
    days = {case["submitter_id"]: case["demographic"]["days_to_death"] for case in cohort.cases}
    assert table["os_days"].to_dict() == days
    folds = pd.read_csv(folder / "folds.csv").set_index("patient_id")["fold"]
    assert (folds.groupby(table["site"]).nunique() == 1).all()  # whole sites
    assert len(FeatureStore(str(folder / "features.zarr")).slides()) == 4
    assert main([*commands[-1], "--models", "rna_linear,clinical", "--only-fold", "0"]) == 0
    assert "8 patients, " in capsys.readouterr().out
    check(["fit", *commands[-1][1:]])  # the networks of the same config
    config = yaml.safe_load((folder / "crossval.yaml").read_text())
    assert config["data"]["init_args"]["covariates"] == ["age", "sex", "stage"]


def test_only_commands_with_their_input_are_printed(cohort, fetch):
    def names(*words, out):
        code, printed, _ = fetch(*words, out=out)
        assert code == 0
        return [words[0] if words[0] != "cohort" else words[1] for words in commands_in(printed)]

    assert names("--slides", 1, out="s") == ["extract"]
    assert names("--rna", out="r") == ["expression"]
    assert names("--clinical", out="c") == ["gdc", "split"]
    assert names("--clinical", out="s") == ["gdc", "split", "extract", "doctor", "crossval"]  # joins the slide
    assert names("--slides", 1, "--rna", out="sr") == ["expression", "extract"]


def test_rna_or_clinical_data_alone_go_on_as_printed(cohort, fetch):
    for kind, table in (("--rna", "expression.parquet"), ("--clinical", "folds.csv")):
        _, out, _ = fetch(kind, out=kind.strip("-"))
        for words in commands_in(out):
            assert main(words) == 0
        assert Path(kind.strip("-"), table).is_file()

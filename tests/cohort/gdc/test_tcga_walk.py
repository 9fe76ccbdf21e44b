"""docs/tcga.md, step by step, on a made-up cart: its commands, as they are written, lead to a model."""

from __future__ import annotations

import argparse
import re
from importlib import import_module

import numpy as np
import pandas as pd
import yaml
from doc_blocks import blocks_of
from gdc_downloads import Downloads, star_text

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.genes.gene_names import ensembl_index
from dmml.commands.config.preflight import check

COMMANDS = {"cohort gdc": "cohort.gdc", "cohort split": "cohort.split", "doctor": "doctor"}


def parsed(words: list[str]) -> tuple[object, argparse.Namespace]:
    """A command and its arguments; argparse exits if they are not valid."""
    name = next(name for name in COMMANDS if words[: name.count(" ") + 1] == name.split())
    module = import_module(f"dmml.commands.{COMMANDS[name]}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module, parser.parse_args(words[name.count(" ") + 1 :])


def written(folder) -> list[list[str]]:
    """The commands of the page, each as a list of words."""
    commands = [words for block in blocks_of("docs/tcga.md", "bash") for words in block.commands(folder)]
    return [words[1:] for words in commands if words[0] == "dmml"]


def test_the_page_leads_from_a_cart_to_a_model(repository, tmp_path, capsys):
    made = Downloads(tmp_path / "cart")
    identifiers = {symbol: identifier for identifier, symbol in ensembl_index().items()}
    sets = read_gene_sets()
    genes = [(f"{identifiers[g]}.1", g) for s in sets for g in genes_of(sets[s])[:40] if g in identifiers]
    rng = np.random.default_rng(0)
    for i in range(40):
        patient = f"TCGA-{'05 44 49 55 64'.split()[i % 5]}-{i:04d}"
        dead, days = bool(rng.integers(2)), int(rng.integers(50, 3000))
        made.sample(patient, text=star_text(i, genes))
        made.case(patient, "Dead" if dead else "Alive", days if dead else None, days)
    sheet, clinical = made.write_sheet(), made.write_archive()

    gdc, split = (
        next(words for words in written(tmp_path) if words[:2] == ["cohort", name]) for name in ("gdc", "split")
    )
    paths = {"data/luad/rna": made.rna, "gdc_sample_sheet.tsv": sheet, "clinical.cart.tar.gz": clinical}
    for words in (gdc, split):
        module, args = parsed([str(paths.get(word, word)) for word in words])
        module.run(args)
    table = pd.read_csv("data/luad/clinical.csv", dtype={"patient_id": str, "site": str}).set_index("patient_id")
    folds = pd.read_csv("data/luad/folds.csv").set_index("patient_id")["fold"]
    out = capsys.readouterr().out
    assert "40 patients with both" in out
    assert (folds.groupby(table["site"]).nunique() == 1).all()  # whole sites
    for k, row in folds.groupby(folds):  # patients, events and sites of each fold, as printed
        own_rows = table.loc[row.index]
        counts = [len(row), int(own_rows["os_event"].sum()), own_rows["site"].nunique(), 0]
        assert re.search(rf"^{k} +" + " +".join(map(str, counts)) + "$", out, re.MULTILINE)

    config = yaml.safe_load((repository / "configs" / "luad.yaml").read_text())
    config["data"]["init_args"] |= {"features": None, "split": "data/luad/folds.csv", "batch_size": 16}
    config["model"]["init_args"]["width"] = 16
    config["trainer"] |= {"max_epochs": 1, "precision": "32-true", "enable_progress_bar": False}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    module, args = parsed(["doctor", "--config", "c.yaml"])
    module.run(args)
    out = capsys.readouterr().out
    assert "RNA, no slides: 40 patients, 40 with outcome" in out
    assert "5 sites; 0 of 8 test patients share one with training patients" in out
    assert check(["fit", "--config", "c.yaml"]).config["data"]["init_args"]["name"] == "luad"  # `fit` takes it

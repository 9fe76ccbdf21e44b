"""A format of RNA is one class and one entry of a list; nothing else has to know it."""

import numpy as np
from rna_tables import GENES, PATIENTS, TPM, by_genes

from dmml.cohort.rna.expression import build_expression
from dmml.cohort.rna.formats import registry
from dmml.cohort.rna.formats.rna_format import TableFormat
from dmml.cohort.rna.matrix import Matrix


class NpzTable(TableFormat):
    """A format that dmml does not have: values, samples and genes in an .npz."""

    key, title = "npz", "NPZ"
    folder_endings = (".npz",)

    def matches(self, path):
        return path.suffix == ".npz"

    def read(self, path, options):
        content = np.load(path)
        return Matrix(content["values"], list(content["samples"]), list(content["genes"]), scale="tpm", unit="NPZ, TPM")


def test_a_format_in_the_list_is_read_from_a_file_and_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "FORMATS", (NpzTable(), *registry.FORMATS))
    np.savez(tmp_path / "rna.npz", values=TPM, samples=PATIENTS, genes=GENES)
    by_genes(TPM, PATIENTS).to_csv(tmp_path / "rna.csv")
    expected = build_expression([tmp_path / "rna.csv"], scale="tpm")
    for path in (tmp_path / "rna.npz", tmp_path):
        expression = build_expression([path])
        assert expression.table.equals(expected.table)
        assert expression.provenance["sources"][0]["form"] == "npz"
        assert expression.provenance["read_as"] == ["NPZ, TPM"]


def test_every_format_has_a_distinct_name_for_messages():
    titles = [form.title for form in registry.FORMATS]
    assert len(set(titles)) == len(titles)

import csv

import pytest

from dmml.cohort.gene_sets.gene_sets import SHIPPED, SUBSPACES, genes_of, read_gene_sets
from dmml.cohort.rna.genes.gene_names import all_symbols, current_symbol, gene_symbol, is_gene, other_names
from dmml.errors import InputError


def gmt(path):
    """A second, naive reader of GMT: {set: genes} as named in the file."""
    return {line.split("\t")[0]: line.rstrip("\n").split("\t")[2:] for line in path.read_text().splitlines()}


def test_the_shipped_subspaces_are_disjoint_and_complete():
    sets = read_gene_sets()
    assert list(sets) == list(SUBSPACES)
    assert not set(genes_of(sets["tumor"])) & set(genes_of(sets["tme"]))
    for subspace in SUBSPACES:
        raw = gmt(SHIPPED / f"{subspace}.gmt")
        assert set(sets[subspace]) == set(raw)
        assert min(len(genes) for genes in sets[subspace].values()) >= 10
        assert set(genes_of(sets[subspace])) == {current_symbol(g) for genes in raw.values() for g in genes}
    assert len(genes_of(sets["tumor"])) > 2000
    assert len(genes_of(sets["tme"])) > 1000


def test_the_shipped_genes_are_in_the_index():
    genes = {gene for programs in read_gene_sets().values() for gene in genes_of(programs)}
    unnamed = {gene for gene in genes if gene not in all_symbols()}
    assert unnamed == {"AC004086.1", "AC005840.1", "AC010618.1", "AC091021.1"}  # clone names of an old annotation
    assert all(map(is_gene, genes))
    assert not is_gene("age")


def test_the_shipped_division_follows_its_rule(shared_data):
    """Gene by gene: ESTIMATE genes are TME; other genes go to the subspace with more sets, or to neither on a tie."""
    folder = shared_data / "genesets"
    tumor, tme = (gmt(folder / f"proposed_{subspace}.gmt") for subspace in SUBSPACES)
    with (folder / "estimate_signatures.csv").open() as file:
        estimate = {row["Symbol"] for row in csv.DictReader(file)} & {g for genes in tme.values() for g in genes}
    shipped = {
        subspace: {g for genes in gmt(SHIPPED / f"{subspace}.gmt").values() for g in genes} for subspace in SUBSPACES
    }
    for gene in {g for sets in (tumor, tme) for genes in sets.values() for g in genes}:
        in_tumor = sum(gene in genes for genes in tumor.values())
        in_tme = sum(gene in genes for genes in tme.values())
        expected = "tme" if gene in estimate or in_tme > in_tumor else "tumor" if in_tumor > in_tme else None
        assert (gene in shipped["tumor"]) == (expected == "tumor"), gene
        assert (gene in shipped["tme"]) == (expected == "tme"), gene


def test_two_gmt_files_are_made_disjoint_by_a_rule(tmp_path):
    (tmp_path / "a.gmt").write_text("CYCLE\tx\tMKI67\tTOP2A\tSHARED\nMORE\tx\tSHARED\tH2AFZ\n")
    (tmp_path / "b.gmt").write_text("IMMUNE\tx\tCD8A\tSHARED\n")
    spec = {"tumor": tmp_path / "a.gmt", "tme": tmp_path / "b.gmt"}
    with pytest.raises(InputError, match=r"1 gene\(s\) are in both subspaces \(SHARED\)"):
        read_gene_sets(spec)
    assert read_gene_sets(spec, "tumor")["tme"] == {"IMMUNE": ["CD8A"]}
    assert read_gene_sets({**spec, "overlap": "tme"})["tumor"] == {"CYCLE": ["MKI67", "TOP2A"], "MORE": ["H2AZ1"]}
    assert "SHARED" not in {g for p in read_gene_sets(spec, "drop").values() for g in genes_of(p)}
    assert "SHARED" in genes_of(read_gene_sets(spec, "majority")["tumor"])
    with pytest.raises(InputError, match="unknown rule for an overlap 'first'"):
        read_gene_sets(spec, "first")


def test_one_csv_may_hold_both_subspaces(tmp_path):
    path = tmp_path / "sets.csv"
    path.write_text("gene,subspace,program\nMKI67,tumor,cycle\nTOP2A,tumor,cycle\nEGFR,Tumor,\nCD8A,tme,\n")
    assert read_gene_sets(path) == {"tumor": {"cycle": ["MKI67", "TOP2A"], "EGFR": ["EGFR"]}, "tme": {"CD8A": ["CD8A"]}}
    path.write_text("gene,subspace\nMKI67,tumour\n")
    with pytest.raises(InputError, match="row 2: the subspace is 'tumour'"):
        read_gene_sets(path)
    path.write_text("symbol,subspace\nMKI67,tumor\n")
    with pytest.raises(InputError, match="no column 'gene'"):
        read_gene_sets(path)


def test_each_gene_of_a_flat_list_is_a_program(tmp_path):
    (tmp_path / "t.txt").write_text("MKI67\nTOP2A\n")
    (tmp_path / "e.csv").write_text("gene\nCD8A\n")
    sets = read_gene_sets({"tumor": tmp_path / "t.txt", "tme": tmp_path / "e.csv"})
    assert sets == {"tumor": {"MKI67": ["MKI67"], "TOP2A": ["TOP2A"]}, "tme": {"CD8A": ["CD8A"]}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tumor": "a.gmt"}, "name a file for each of them"),
        ({"tumor": "nope.gmt", "tme": "nope.gmt"}, "nope.gmt: no such file of gene sets"),
        ("nope.csv", "nope.csv: no such file of gene sets"),
    ],
)
def test_invalid_gene_sets_are_refused_with_the_reason(spec, message):
    with pytest.raises(InputError, match=message):
        read_gene_sets(spec)


def test_gene_names_are_mapped_to_symbols():
    assert gene_symbol("ENSG00000141510.18") == "TP53"
    assert gene_symbol("ENSG00000182378.14_PAR_Y") == "PLCXD1"
    assert gene_symbol("TP53|7157") == "TP53"
    assert gene_symbol("H2AFZ") == gene_symbol("H2AZ1") == "H2AZ1"
    assert gene_symbol("?|100130426") is None
    assert gene_symbol("ENSG00000999999") is None
    assert gene_symbol("1-Mar") is gene_symbol("SEP-2") is None


def test_each_other_name_leads_to_one_symbol():
    names = other_names()
    assert len(names.entrez) > 38_000
    assert (names.entrez["7157"], names.entrez["1956"], names.entrez["2597"]) == ("TP53", "EGFR", "GAPDH")
    symbols = set(names.entrez.values()) | set(names.other.values())
    assert not symbols & set(names.other)  # no name leads on to another
    assert symbols <= all_symbols() - set(names.other)
    shipped = {gene for sets in read_gene_sets().values() for gene in genes_of(sets)}
    assert len(shipped & set(names.entrez.values())) == 3214  # all but twelve clones

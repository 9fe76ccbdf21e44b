"""Gene sets of the two subspaces: {subspace: {program: [genes]}}, disjoint between subspaces.

The shipped lists are Hallmark v7.0 and ESTIMATE (see NOTICE). Sets of cell cycle, growth signals, metabolism, stress
and DNA repair are `tumor`; sets of immunity, stroma, vessels and their signals are `tme`. 399 genes are in sets of both
subspaces. Each of them is assigned by the first rule that applies: a gene of an ESTIMATE signature is TME (it was
chosen because pure tumor cells lack it); otherwise it goes to the subspace with more sets that contain it; on a tie it
is left out of both. Genes have their current symbols, in the gene sets as in the RNA tables.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dmml.cohort.rna.genes.gene_names import current_symbol
from dmml.cohort.tables.separators import separator_of
from dmml.cohort.tables.text_files import open_text
from dmml.errors import InputError

# The same as `dmml.types.SUBSPACES`, which cannot be imported here without importing torch.
SUBSPACES = ("tumor", "tme")
OVERLAP_RULES = ("tumor", "tme", "drop", "majority")
SHIPPED = Path(__file__).parent

Programs = dict[str, list[str]]
GeneSets = dict[str, Programs]


def read_gene_sets(spec: Mapping[str, str | Path] | str | Path | None = None, overlap: str | None = None) -> GeneSets:
    """Read the programs of both subspaces.

    Args:
        spec: None for the shipped lists; `{"tumor": file, "tme": file}`, where each file is a GMT, a CSV
            `gene[,program]` or a plain list with one gene per line; or one CSV `gene,subspace[,program]` for both. In a
            list without programs, each gene is a program. A dict may also contain `overlap`.
        overlap: How to assign a gene that both subspaces list: `"tumor"` or `"tme"` keeps it in that subspace, `"drop"`
            in neither, `"majority"` in the subspace with more programs that contain it (on a tie in neither). With
            None, an overlap is an error.

    Returns:
        {"tumor": {program: [genes]}, "tme": {program: [genes]}}; no gene is in both, and empty programs are removed.

    Raises:
        InputError: A file is missing or malformed, a subspace has no gene, or the lists overlap and no rule is given.
    """
    if spec is None:
        spec = {subspace: SHIPPED / f"{subspace}.gmt" for subspace in SUBSPACES}
    if isinstance(spec, Mapping):
        spec = dict(spec)
        rule = spec.pop("overlap", overlap)
        overlap = None if rule is None else str(rule)
        if set(spec) != set(SUBSPACES):
            raise InputError(
                f"gene_sets: its keys are {sorted(map(str, spec))}, but must be tumor and tme; name a file for each of them"
            )
        gene_sets = {subspace: _read_programs(Path(spec[subspace])) for subspace in SUBSPACES}
        source = f"{spec['tumor']} and {spec['tme']}"
    else:
        gene_sets = _read_both(Path(spec))
        source = str(spec)
    for subspace in SUBSPACES:
        if not any(gene_sets[subspace].values()):
            raise InputError(f"{source}: has no gene for the subspace {subspace}; both tumor and tme need at least one")
    return divide_overlap(gene_sets, overlap, source)


def genes_of(programs: Mapping[str, Iterable[str]]) -> list[str]:
    """All genes of a subspace's programs, sorted and without duplicates."""
    return sorted({gene for genes in programs.values() for gene in genes})


def divide_overlap(gene_sets: GeneSets, rule: str | None, source: str = "gene sets") -> GeneSets:
    """Make two subspaces disjoint by a rule (see `read_gene_sets`); without a rule, refuse an overlap.

    Args:
        gene_sets: {subspace: {program: [genes]}}.
        rule: One of `OVERLAP_RULES`, or None.
        source: Name of the lists in messages.

    Raises:
        InputError: The lists overlap and `rule` is None, the rule is unknown, or it leaves a subspace empty.
    """
    if rule is not None and rule not in OVERLAP_RULES:
        raise InputError(f"gene_sets: unknown rule for an overlap {rule!r}; use one of {', '.join(OVERLAP_RULES)}")
    shared = set(genes_of(gene_sets["tumor"])) & set(genes_of(gene_sets["tme"]))
    if not shared:
        return gene_sets
    if rule is None:
        examples = ", ".join(sorted(shared)[:5]) + (", …" if len(shared) > 5 else "")
        raise InputError(
            f"{source}: {len(shared)} gene(s) are in both subspaces ({examples}); remove them from one of the lists, "
            "or state a rule (gene_sets: {…, overlap: tumor | tme | drop | majority})"
        )
    keeps = _keeper(gene_sets, rule)
    divided: GeneSets = {}
    for subspace in SUBSPACES:
        left = {
            program: [gene for gene in genes if gene not in shared or keeps(gene) == subspace]
            for program, genes in gene_sets[subspace].items()
        }
        divided[subspace] = {program: genes for program, genes in left.items() if genes}
        if not divided[subspace]:
            raise InputError(f"{source}: the overlap rule {rule!r} leaves no gene for {subspace}; use another rule")
    return divided


def _keeper(gene_sets: GeneSets, rule: str) -> Callable[[str], str | None]:
    """Make a function from a shared gene to the subspace that keeps it, or None if neither does."""
    if rule in SUBSPACES:
        return lambda gene: rule
    if rule == "drop":
        return lambda gene: None
    counts = {s: Counter(gene for genes in gene_sets[s].values() for gene in genes) for s in SUBSPACES}

    def majority(gene: str) -> str | None:
        tumor, tme = (counts[subspace][gene] for subspace in SUBSPACES)
        return None if tumor == tme else ("tumor" if tumor > tme else "tme")

    return majority


def _read_programs(path: Path) -> Programs:
    """Read the programs of one subspace from a GMT, a CSV with a column `gene`, or a list with one gene per line."""
    lines = _lines(path)
    if path.suffix.lower() == ".gmt":
        return _parse_gmt(path, lines)
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _rows(path, lines, required=("gene",))
        return _group((row["gene"], row.get("program")) for row in rows)
    return _group((line, None) for line in lines)


def _read_both(path: Path) -> GeneSets:
    """Read the programs of both subspaces from one CSV `gene,subspace[,program]`."""
    if path.suffix.lower() == ".gmt":
        raise InputError(f"{path}: a GMT holds one subspace; name two files, gene_sets: {{tumor: …gmt, tme: …gmt}}")
    pairs: dict[str, list[tuple[str, str | None]]] = {subspace: [] for subspace in SUBSPACES}
    for number, row in enumerate(_rows(path, _lines(path), required=("gene", "subspace")), start=2):
        subspace = row["subspace"].strip().lower()
        if subspace not in pairs:
            raise InputError(f"{path}: row {number}: the subspace is {row['subspace']!r}, but must be tumor or tme")
        pairs[subspace].append((row["gene"], row.get("program")))
    return {subspace: _group(pairs[subspace]) for subspace in SUBSPACES}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file of gene sets; correct gene_sets, or leave it out")
    try:
        with open_text(path) as text:
            lines = text.read().splitlines()
    except InputError as error:
        raise InputError(f"{error}; gene sets must be GMT, CSV, or a list with one gene per line") from error
    return [line.strip("\r\n") for line in lines if line.strip() and not line.startswith("#")]


def _parse_gmt(path: Path, lines: list[str]) -> Programs:
    programs: Programs = {}
    for number, line in enumerate(lines, start=1):
        name, *rest = line.split("\t")
        genes = list(dict.fromkeys(current_symbol(gene.strip()) for gene in rest[1:] if gene.strip()))
        if not genes:
            raise InputError(
                f"{path}: line {number} is not a gene set; a line of a GMT is name<TAB>description<TAB>gene<TAB>gene…"
            )
        if name in programs:
            raise InputError(f"{path}: line {number}: the set {name!r} occurs twice; rename or remove one of them")
        programs[name] = genes
    return programs


def _rows(path: Path, lines: list[str], required: tuple[str, ...]) -> list[dict[str, str]]:
    reader = csv.DictReader(lines, delimiter=separator_of(lines[0], lines[1:6]) if lines else ",")
    missing = [column for column in required if column not in (reader.fieldnames or [])]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r} (its columns are: {', '.join(reader.fieldnames or []) or 'none'}); "
            f"the header must be {','.join(required)}[,program]"
        )
    return list(reader)


def _group(pairs: Iterable[tuple[str, str | None]]) -> Programs:
    """Group (gene, program) pairs by program; a gene without a program becomes a program named after it."""
    programs: Programs = {}
    for gene, program in pairs:
        gene = current_symbol((gene or "").strip())
        if gene:
            genes = programs.setdefault((program or "").strip() or gene, [])
            if gene not in genes:
                genes.append(gene)
    return programs

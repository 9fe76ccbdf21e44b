"""RNA-seq counts of simulated patients: programs follow the factors of their subspace, genes follow their programs.

log-mean of gene g in patient i = base_g + loading_g · mean over its programs of (w_p · f_i + noise_ip) + noise_ig
+ nuisance_g · components_i + shifts of cohort and site + log of the library size. Counts are negative binomial with
drop-outs. Genes in no program follow only the nuisance components (degradation, purity and the like), which are
independent of the outcome.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.genes.gene_names import INDEX
from dmml.simulate.truth import COHORTS, FACTORS, MODEL_SEED, SITES, Patient
from dmml.simulate.world_patients import WorldPatient
from dmml.simulate.worlds import OPPOSED

PROGRAMS_OF_FACTOR = {
    "proliferation": "E2F_TARGETS G2M_CHECKPOINT MYC_TARGETS_V1 MYC_TARGETS_V2 MITOTIC_SPINDLE DNA_REPAIR MTORC1_SIGNALING",
    "pleomorphism": "P53_PATHWAY UNFOLDED_PROTEIN_RESPONSE GLYCOLYSIS HYPOXIA REACTIVE_OXYGEN_SPECIES_PATHWAY APOPTOSIS",
    "architecture": "WNT_BETA_CATENIN_SIGNALING NOTCH_SIGNALING HEDGEHOG_SIGNALING KRAS_SIGNALING_UP KRAS_SIGNALING_DN",
    "lymphocytes": "ALLOGRAFT_REJECTION INTERFERON_GAMMA_RESPONSE INTERFERON_ALPHA_RESPONSE IL2_STAT5_SIGNALING ESTIMATE_IMMUNE",
    "fibrosis": "EPITHELIAL_MESENCHYMAL_TRANSITION TGF_BETA_SIGNALING ESTIMATE_STROMAL",
    "vessels": "ANGIOGENESIS COAGULATION COMPLEMENT",
}
"""Programs that mainly follow one factor. All other programs mix the three factors of their subspace."""
LEADING_WEIGHT = 0.9
MIXED_WEIGHT = 0.25
PROGRAM_NOISE = 0.45
GENE_NOISE = 0.50
COHORT_SHIFT = {"development": 0.10, "held_out": 0.30}
SITE_SHIFT = 0.08
LIBRARY_SIZE = {"development": 1.0, "held_out": 0.6}
LIBRARY_SIZE_SPREAD = 0.30
DISPERSION = 0.12
N_NUISANCE = 1500
GENES_PER_NUISANCE_GENE = 11.0
"""Number of unlisted genes that each nuisance gene represents: a tumor expresses about 17,000 genes besides the listed
ones. TPM sum to a million, so without this mass a rise of the tumor genes would push every TME gene down, far more than
in real tables."""
N_NUISANCE_COMPONENTS = 4
N_PSEUDOAUTOSOMAL = 2
WORLD_SHARE = 1 / 3
"""Share of the programs that also follow the factor that a world adds."""
WORLD_WEIGHT = 0.8
"""Weight of the world's factor in these programs."""
UNPLACED_ID = 970_000_000
"""First of the Ensembl numbers given to listed symbols that the shipped index lacks; no release uses such numbers."""


@dataclass(frozen=True)
class GeneModel:
    """Fixed properties of G genes, in the order of their Ensembl ids, and of P programs."""

    symbols: np.ndarray
    """(G,) unique gene symbols."""
    ensembl: np.ndarray
    """(G,) versioned Ensembl ids."""
    length: np.ndarray
    """(G,) effective length in kb."""
    base: np.ndarray
    """(G,) log of the mean count in a library of the usual size."""
    membership: np.ndarray
    """(G, P); rows sum to 1 for genes of programs, to 0 for nuisance genes."""
    loading: np.ndarray
    """(G,) change of the log-mean per unit of the mean of the gene's programs."""
    nuisance: np.ndarray
    """(G, components) loadings on the nuisance components."""
    program_weights: np.ndarray
    """(P, 6) weights on the factors; only those of the program's subspace are not 0."""
    shifts: dict[str, np.ndarray]
    """{cohort or site: (G,) shift of the log-mean}."""


@functools.cache
def gene_model() -> GeneModel:
    """Draw the genes of the simulation; they are the same for every cohort and seed."""
    rng = np.random.default_rng([MODEL_SEED, 1])
    programs = read_gene_sets(None)
    names = [(subspace, program) for subspace in FACTORS for program in sorted(programs[subspace])]
    listed = [gene for subspace in FACTORS for gene in genes_of(programs[subspace])]
    symbols, ensembl = _choose_genes(listed, rng)
    n_genes = len(symbols)
    column = {program: k for k, (_, program) in enumerate(names)}
    row = {symbol: k for k, symbol in enumerate(symbols)}
    membership = np.zeros((n_genes, len(names)))
    for subspace, program in names:
        membership[[row[gene] for gene in programs[subspace][program]], column[program]] = 1.0
    of_program = membership.any(axis=1)
    membership /= np.maximum(membership.sum(axis=1, keepdims=True), 1.0)
    sign = np.where(rng.random(n_genes) < 0.08, -1.0, 1.0)
    return GeneModel(
        symbols=symbols,
        ensembl=ensembl,
        length=np.clip(rng.lognormal(0.9, 0.6, n_genes), 0.3, 15.0),
        base=rng.normal(4.3, 1.9, n_genes) + np.where(of_program, 0.0, np.log(GENES_PER_NUISANCE_GENE)),
        membership=membership,
        loading=np.where(of_program, sign * rng.gamma(6.0, 0.09, n_genes), 0.0),
        nuisance=rng.normal(0.0, np.where(of_program, 0.10, 0.35)[:, None], (n_genes, N_NUISANCE_COMPONENTS)),
        program_weights=np.stack([_program_weights(subspace, program, rng) for subspace, program in names]),
        shifts={
            **{cohort: rng.normal(0.0, COHORT_SHIFT[cohort], n_genes) for cohort in COHORTS},
            **{site: rng.normal(0.0, SITE_SHIFT, n_genes) for sites in SITES.values() for site in sites},
        },
    )


def _program_weights(subspace: str, program: str, rng: np.random.Generator) -> np.ndarray:
    """Weights of a program on the factors, (6,); those of the other subspace are 0."""
    mixed = np.abs(rng.normal(0.0, 1.0, 3))
    mixed /= np.linalg.norm(mixed)
    name = program.removeprefix("HALLMARK_")
    for k, factor in enumerate(FACTORS[subspace]):
        if name in PROGRAMS_OF_FACTOR[factor].split():
            mixed = MIXED_WEIGHT * mixed + LEADING_WEIGHT * np.eye(3)[k]
    weights = np.zeros(6)
    start = 3 * list(FACTORS).index(subspace)
    weights[start : start + 3] = mixed
    return weights


def _choose_genes(listed: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose nuisance genes and look up Ensembl ids.

    Returns:
        Symbols of the listed and the nuisance genes, and their versioned Ensembl ids, both in the order of the ids.
    """
    index = pd.read_csv(INDEX, dtype=str).dropna()
    index = index.sort_values("ensembl_gene_id").drop_duplicates("symbol").set_index("symbol")["ensembl_gene_id"]
    plain_symbol = re.compile(r"(?!LINC|MIR|SNOR|RNU|RNA|TRA|TRB|IGH|IGK|IGL|OR\d)[A-Z][A-Z]+\d{0,2}[A-Z]?")
    others = sorted(
        symbol for symbol in index.index if plain_symbol.fullmatch(symbol) and not re.search(r"P\d*$", symbol)
    )
    others = sorted(set(others) - set(listed))
    symbols = np.array(sorted(listed) + sorted(rng.choice(others, N_NUISANCE, replace=False)), dtype=object)
    versions = rng.integers(1, 20, len(symbols))
    stable = [index.get(symbol, f"ENSG{UNPLACED_ID + k:011d}") for k, symbol in enumerate(symbols)]
    ensembl = np.array([f"{gene}.{version}" for gene, version in zip(stable, versions, strict=True)], dtype=object)
    order = np.argsort(ensembl.astype(str))
    return symbols[order], ensembl[order]


def draw_counts(patient: Patient) -> np.ndarray:
    """Draw the counts of a patient's tumor: (G,) int64, in the order of `gene_model().symbols`."""
    model = gene_model()
    rng = patient.generator("expression")
    n_genes, n_programs = model.membership.shape
    programs = model.program_weights @ patient.factors + PROGRAM_NOISE * rng.standard_normal(n_programs)
    site_size = 1.0
    if isinstance(patient, WorldPatient):
        programs, site_size = programs + _world_programs(patient), patient.world.site_size
    log_mean = (
        model.base
        + model.loading * (model.membership @ programs)
        + model.nuisance @ rng.standard_normal(N_NUISANCE_COMPONENTS)
        + GENE_NOISE * rng.standard_normal(n_genes)
        + model.shifts[patient.cohort]
        + site_size * model.shifts[patient.site]
    )
    mean = np.exp(log_mean) * LIBRARY_SIZE[patient.cohort] * rng.lognormal(0.0, LIBRARY_SIZE_SPREAD)
    counts = rng.poisson(mean * rng.gamma(1 / DISPERSION, DISPERSION, n_genes))
    counts[rng.random(n_genes) < 0.5 * np.exp(-mean / 3.0)] = 0
    return counts


@functools.cache
def _follows_world() -> np.ndarray:
    """Which programs also follow the factor that a world adds: (P,) bool, the same for every seed."""
    return np.random.default_rng([MODEL_SEED, 5]).random(len(gene_model().program_weights)) < WORLD_SHARE


def _world_programs(patient: WorldPatient) -> np.ndarray:
    """Contribution of the world's additional factors to the programs: (P,)."""
    follows = WORLD_WEIGHT * _follows_world()
    if patient.world.planting == OPPOSED:
        of_tumor = gene_model().program_weights[:, :3].any(axis=1)
        return follows * np.where(of_tumor, *patient.opposed)
    return follows * patient.g if patient.world.genes_show_g else np.zeros(len(follows))


def tpm(counts: np.ndarray) -> np.ndarray:
    """Transcripts per million: counts divided by the length in kb, scaled to a sum of a million over the genes.

    Args:
        counts: (..., G) counts.

    Returns:
        (..., G) TPM.
    """
    rate = counts / gene_model().length
    return 1e6 * rate / rate.sum(axis=-1, keepdims=True)


def star_counts(patient: Patient) -> str:
    """Draw a patient's counts and write them as text in the GDC's STAR counts format."""
    model = gene_model()
    counts = draw_counts(patient)
    rng = patient.generator("strands")
    first = rng.binomial(counts, 0.5)
    fpkm = 1e9 * counts / (1e3 * model.length * counts.sum())
    fpkm_uq = 1e9 * counts / (1e3 * model.length * np.quantile(counts[counts > 0], 0.75) * len(counts))
    table = pd.DataFrame(
        {
            "gene_id": model.ensembl,
            "gene_name": model.symbols,
            "gene_type": "protein_coding",
            "unstranded": counts,
            "stranded_first": first,
            "stranded_second": counts - first,
            "tpm_unstranded": tpm(counts).round(4),
            "fpkm_unstranded": fpkm.round(4),
            "fpkm_uq_unstranded": fpkm_uq.round(4),
        }
    )
    # Such files list genes of the pseudoautosomal region twice, and all reads are assigned to the copy on X.
    pseudoautosomal = table.iloc[[len(table) // 3, 2 * len(table) // 3][:N_PSEUDOAUTOSOMAL]].copy()
    pseudoautosomal["gene_id"] += "_PAR_Y"
    pseudoautosomal[table.columns[3:]] = 0
    table = pd.concat([table, pseudoautosomal]).sort_values("gene_id")
    total = int(counts.sum())
    lines = ["# gene-model: GENCODE v36", "\t".join(table.columns)]
    for name, share in (("unmapped", 0.04), ("multimapping", 0.07), ("noFeature", 0.05), ("ambiguous", 0.02)):
        three = rng.poisson(share * total * np.array([1.0, 1.3, 1.3]))
        lines.append("\t".join([f"N_{name}", "", "", *map(str, three), "", "", ""]))
    return "\n".join(lines) + "\n" + table.to_csv(sep="\t", header=False, index=False, lineterminator="\n")

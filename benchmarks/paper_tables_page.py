"""The page of `paper_tables.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from paper_tables_claims import claims, differences
from paper_tables_rows import MAIN, PAPER_METRICS, counterpart_of

INTRODUCTION = """# The paper's tables, row by row

*Disentangled Multi-modal Learning of Histology and Transcriptomics for Cancer Characterization* (Zhang, Wang, Liu, Yu, Li; IEEE Transactions on Medical Imaging 2026, [doi:10.1109/TMI.2026.3669968](https://doi.org/10.1109/TMI.2026.3669968), [arXiv:2508.16479](https://arxiv.org/abs/2508.16479)) reports diagnosis, grading and survival on TCGA GBM-LGG and IvyGAP. This page puts three things beside each other: what the paper reports, what the names of the released code's checkpoints say, and what dmml gives with the configs of [configs/paper](../../configs/paper). The slides are not part of this repository. Whoever has them fills in the page with one command:

    dmml crossval --config configs/paper/diagnosis.yaml --student configs/paper/diagnosis_student.yaml
    python benchmarks/paper_tables.py --crossval diagnosis=runs/paper/diagnosis_crossval

`--crossval` may be repeated for `grading` and `survival`, and `dmml crossval --baselines transmil,mcat` also fits the counterparts of two more rows. `--row KEY:TASK=FOLDER` fills a row of tables IV to X from the cross-validation of the config that the row names, and `--external KEY=FOLDER` the external column of table III from the folder of a `dmml test`.
"""
PROTOCOL = """## What the protocol changes, and why

The numbers of the two protocols answer different questions, and a difference between them is no verdict on the method.

| | paper and released code | dmml | why |
|---|---|---|---|
| choice of the epoch | no validation part. The paper trains 10 epochs; the checkpoints of the released code's survival teachers come from epochs 10, 10 and 2, and its loop reports test metrics while it trains | test patients choose nothing. `configs/paper` takes the last epoch, as the paper's text suggests; all other configs let inner validation patients choose it | an epoch that test results have chosen makes the test optimistic |
| unit | slide–RNA pairs: 2,387 of 668 cases. A patient with five slides counts five times | the patient; all of its slides are one bag | slides of a patient are not independent, and intervals would be too narrow |
| ± | population SD over three folds (the checkpoints' values reproduce it, see below); nothing for the external cohort | the same mean and SD, and a 95 % bootstrap interval over patients | three folds share most of their training patients: their SD is no interval |
| what is fitted to the data | the released code has the survival intervals and the class weights of all patients, those of the test included, as constants; on whom the variance of the genes was measured is not stated | from the training patients of the fold | whatever is fitted to test patients leaks |
| inner validation | none | a fifth of the training patients of each fold is kept apart; with `configs/paper` it chooses nothing, but it does not train either | the training curves, and the weights of models that are joined with covariates, come from patients who trained nothing. The price is a training part smaller by a fifth |
| RNA | the released code reads raw FPKM of two pipelines, column by column in the order of each file | genes by name, log2(TPM + 1), standardised on training patients | a column must be the same gene in both cohorts |
| cohorts | TCGA and IvyGAP in one; IvyGAP holds glioblastoma only | both may be named under `data:`; a column of the clinical table that names the cohort makes each cohort a row among the subgroups of a test's `shift.json` | the cohort alone tells a part of the diagnosis |
| comparison of models | none is tested | paired differences on the same patients, with Holm's correction | most of the differences between the paper's rows lie within its SDs ([below](#differences-and-the-papers-own-sds)) |
"""


def page(facts: Mapping[str, Any], results: Mapping[tuple[str, str], Any], runs: Sequence[str], command: str) -> str:
    """Return the page in Markdown.

    Args:
        facts: Content of `paper_tables.json`.
        results: See `paper_tables.collect`.
        runs: One line about each run.
        command: The command that made the page.
    """
    lines = [INTRODUCTION]
    if runs:
        lines += [f"This page was made by `{command}`, of these runs:", "", *(f"- {run}" for run in runs), ""]
    else:
        lines += ["No run has been named yet, so all rows of dmml are empty.", ""]
    lines += [PROTOCOL, "## The tables", "", *_legend(), ""]
    for table in facts["tables"]:
        lines += _table(table, facts["released_code"], results)
    lines += _figures(facts, results)
    lines += differences(facts)
    lines += claims(facts)
    return "\n".join(lines).rstrip() + "\n"


def _legend() -> list[str]:
    return [
        "In per cent. *paper* and *code* (the released code): mean ± SD over three folds. *dmml, folds*: the same, over the "
        "folds of the run. *dmml, patients*: all test patients pooled within folds, with the 95 % interval. An empty row of "
        "dmml is not run yet, and – is not reported or not computed. H: slides, G: RNA; the arrow leads from training to "
        "test. The last column names the counterpart in dmml: a model of `dmml crossval`, or the change of the config and "
        "the key for `--row`. *none*: dmml has no such model.",
    ]


def _table(table: Mapping[str, Any], code: Mapping[str, Any], results: Mapping[tuple[str, str], Any]) -> list[str]:
    rows = table["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row["values"]))
    has_use = any("use" in row for row in rows)
    head = ["row", *(["use"] if has_use else []), "from", *map(column_name, columns), "in dmml"]
    plural = "Tables" if "–" in table["table"] else "Table"
    lines = [f"### {plural} {table['table']}: {table['title']}", "", _line(head), "|---" * len(head) + "|"]
    for row in rows:
        counterpart = counterpart_of(table["table"], row["row"])
        use = [row["use"]] if has_use else []
        lines.append(
            _line(
                [
                    f"**{row['row']}**",
                    *use,
                    "paper",
                    *(_paper(row["values"].get(c)) for c in columns),
                    _how(counterpart),
                ]
            )
        )
        blank = ["", *([""] if has_use else [])]
        if (
            counterpart is not None
            and counterpart.key in CODE_ROWS
            and _has_code(code, CODE_ROWS[counterpart.key], columns)
        ):
            lines.append(_line([*blank, "code", *(_code(code, CODE_ROWS[counterpart.key], c) for c in columns), ""]))
        if counterpart is not None:
            of_runs = [results.get((counterpart.key, column)) for column in columns]
            if not any(of_runs):
                lines.append(_line([*blank, "dmml", *[""] * len(columns), ""]))
                continue
            lines.append(_line([*blank, "dmml, folds", *map(_folds, of_runs), ""]))
            lines.append(_line([*blank, "dmml, patients", *map(_pooled, of_runs), ""]))
    return [*lines, *_notes(table["table"]), ""]


CODE_ROWS = {"teacher": "teacher", "student": "student"}
"""{key of a row: model of the released code}; no checkpoint of its distilled students names a result."""


def _has_code(code: Mapping[str, Any], model: str, columns: Sequence[str]) -> bool:
    return any(_code(code, model, column) != "–" for column in columns)


def _code(code: Mapping[str, Any], model: str, column: str) -> str:
    folds = code["folds"][model].get(column)
    if folds:
        return f"{np.mean(folds):.2f} ± {np.std(folds):.2f}"
    one = code["one_fold"][model].get(column)
    return f"{one[0]:.2f} (fold {one[1]:.0f} alone)" if one else "–"


def _notes(table: str) -> list[str]:
    notes = {
        "III": "dmml's C-index is Harrell's, of the expected number of survived intervals. The paper calls its own a "
        "*discretized-survival* C-index and does not define it.",
        "V": "The paper does not say how tokens are pooled without clustering; dmml's `PrototypeAggregator` then has a gated "
        "pool per subspace. It makes one prototype per subspace, so 8 and 32 clusters are those of `TokenAggregator`: found "
        "in windows of neighbouring tokens, followed by attention among the merged tokens and a pool. To see what their "
        "number does, compare them with that aggregator and `n_merged: 2`. Plain self-attention before clustering is left "
        "out, because its cost is quadratic in the tokens; `TokenAggregator` has it only in place of the clusters "
        "(`n_merged: null`).",
        "VI–VIII": "*w/o* a gene set, and one joint gene set (*w/o disen*): dmml's teacher has two subspaces, and "
        "`gene_sets` is refused if one of them has no gene, or if both list the same gene.",
        "IX": "dmml draws no genes at random: write 30 % of each list, drawn by you, into a file with one gene per line. In "
        "such a file every gene is a program of its own; a CSV `gene,program` keeps the programs.",
    }  # fmt: skip
    return ["", notes[table]] if table in notes else []


def _figures(facts: Mapping[str, Any], results: Mapping[tuple[str, str], Any]) -> list[str]:
    lines = ["### Figures 6, 7 and 8", "", "| what | paper | dmml | in dmml |", "|---|---|---|---|"]
    for key, (ratio, low, high) in facts["hazard_ratios"].items():
        p = facts["hazard_ratios_p"][key]
        of_run = results.get((key, "survival hazard_ratio"))
        measured = "" if of_run is None else _ratio(of_run.value, of_run.low, of_run.high)
        lines.append(
            f"| {key}: hazard ratio of high against low risk | {_ratio(ratio, low, high)}, p = {p:.1e}; split at the median of "
            f"patients that are not stated | {measured} | `hazard_ratio` in `crossval.json`; split at the training patients' "
            "median risk of each fold |"
        )
    maps, genes = facts["prototype_maps"], facts["gene_correlations"]
    return [
        *lines,
        f"| distilled: clusters against IvyGAP's regions | tumor: Dice {maps['tumor dice']:.2f}, recall "
        f"{maps['tumor recall']:.2f}; TME: accuracy {maps['tme accuracy']:.2f}; {maps['slides shown']} slides shown, number "
        "evaluated not stated | | `tiles.csv` of `dmml predict-slide` against your annotation "
        "([reports](../reports.md#cluster-maps-against-annotated-regions)); IvyGAP's is not part of dmml |",
        f"| teacher: correlation of a gene with the malignancy score | best: PTTG1 {genes['tumor PTTG1']:.2f} (tumor), IFNGR2 "
        f"{genes['tme IFNGR2']:.2f} (TME); the score is not defined | | `gene_correlations.csv` of a test: correlation of each "
        "gene with the prediction |",
        "",
    ]


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f}–{high:.2f})"


def column_name(column: str) -> str:
    """Name of a column, e.g. "diagnosis: AUC"."""
    task, metric = column.split(" ")
    return f"{task}: {PAPER_METRICS[metric][0]}"


def _how(counterpart: Any) -> str:
    if counterpart is None:
        return "none"
    if counterpart in MAIN.values():
        return f"`{counterpart.model}`"
    return f"{counterpart.how} (`{counterpart.key}`)"


def _paper(value: Sequence[float | None] | None) -> str:
    if value is None:
        return "–"
    mean, sd = value
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _folds(result: Any) -> str:
    return "–" if result is None or result.mean is None else f"{result.mean:.2f} ± {result.sd:.2f}"


def _pooled(result: Any) -> str:
    if result is None or result.value is None:
        return "–"
    interval = "" if result.low is None or result.high is None else f" ({result.low:.1f}–{result.high:.1f})"
    return f"{result.value:.2f}{interval}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"

"""What does informative token aggregation save, and which information does it keep?

Saves: CPU seconds and peak memory of a student's training step and inference with the default aggregation (8 merged
tokens) and without (attention among all tokens), for several numbers of tokens; one thread, both in turn, minimum over
the rounds, memory in a separate process. Keeps: cross-validated R² of the factors that simulated slides show, from all
tokens and from K merged ones. Duplicates: how much a student's prediction changes if tissue is given more than once.
Prints tables and writes `aggregation.json` and `aggregation.md`.

    python benchmarks/aggregation.py --out docs/results
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import gc
import json
import sys
from pathlib import Path

import torch
from aggregation_keeps import MERGED, READINGS, VISIBILITY, Slides, duplicates, keeps
from contenders import build, step_of
from model_speed import alternate, memory_of, processor, say
from peak_memory import available_gib
from token_batches import one_patient

from dmml.simulate.truth import FACTOR_NAMES

WITH, WITHOUT = "student", "student without aggregation"
LARGEST_GIB = 8.0
LARGEST_SECONDS = 30.0
"""Seconds; a step or an inference of the student without aggregation that would take longer is skipped."""


def timed(kind: str, names: list[str], n_tokens: int, rounds: int) -> list[dict]:
    """Times of training steps or inferences at one number of tokens, in turn."""
    batch = one_patient(n_tokens)
    networks = {name: build(name) for name in names}
    if kind == "training step":
        steps = {name: step_of(network) for name, network in networks.items()}
        best = alternate({name: (lambda step=step: step(batch)) for name, step in steps.items()}, rounds)
    else:
        with torch.inference_mode():
            networks = {name: network.eval() for name, network in networks.items()}
            cases = {name: (lambda network=network: network(batch)) for name, network in networks.items()}
            best = alternate(cases, rounds)
    return [{"what": kind, "model": name, "tokens": n_tokens, **best[name]} for name in names]


def saves(counts: list[int], rounds: int) -> tuple[list[dict], list[str]]:
    """Time and memory of both students by number of tokens, and why the quadratic one was stopped."""
    rows, stops = [], []
    for kind, option in (("training step", ()), ("inference", ("--inference",))):
        names, before = [WITH, WITHOUT], None
        for n_tokens in counts:
            gc.collect()
            timings = timed(kind, names, n_tokens, rounds)
            for row in timings:
                row["gib"] = memory_of(row["model"], n_tokens, *option)["gib"]
            rows += timings
            say(f"{kind} is measured at {n_tokens:,} tokens")
            last, following = timings[-1], counts[counts.index(n_tokens) + 1 :]
            if last["model"] == WITHOUT and following:
                reason = _too_much(last, before, following[0])
                if reason:
                    names = [WITH]
                    stops.append(f"{kind} without aggregation stops at {n_tokens:,} tokens: {reason}.")
                before = last
    return rows, stops


def _too_much(last: dict, before: dict | None, following: int) -> str | None:
    """Why the next number of tokens is skipped, if seconds and memory grow on as before."""
    times = following / last["tokens"]
    power = 2.0 if before and last["gib"] / before["gib"] > 1.5 * last["tokens"] / before["tokens"] else 1.0
    gib = max(last["gib"] * times**power, 0)
    if gib > min(LARGEST_GIB, 0.8 * available_gib()):
        return f"{following:,} would take about {gib:.0f} GiB"
    seconds = last["cpu_s"] * times**2
    return f"{following:,} would take about {seconds:.0f} s" if seconds > LARGEST_SECONDS else None


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def _saves_table(result: dict) -> list[str]:
    lines = []
    row_of = {(row["what"], row["tokens"], row["model"]): row for row in result["saves"]}
    for what, n_tokens, model in row_of:
        if model != WITH:
            continue
        merging, other = row_of[what, n_tokens, WITH], row_of.get((what, n_tokens, WITHOUT))
        row = [what, f"{n_tokens:,}", f"{merging['cpu_s']:.3f}", f"{merging['gib']:.2f}"]
        if other is None:
            row += ["—"] * 4
        else:
            ratios = [other[key] / max(merging[key], 1e-3) for key in ("cpu_s", "gib")]
            row += [f"{other['cpu_s']:.3f}", f"{other['gib']:.2f}", *(f"{ratio:.1f} ×" for ratio in ratios)]
        lines.append(row)
    head = ["", "tokens a scale", "CPU s", "GiB", "without: CPU s", "without: GiB", "time saved", "memory saved"]
    return [*_table(head, lines), "", *result["stops"]]


def _keeps_table(result: dict) -> list[str]:
    lines = []
    row_of = {(row["magnification"], row["tokens"], row["reading"]): row for row in result["keeps"]}
    for m in (10, 20):
        upper_limit = row_of[m, "all", "tissue known"]
        lines.append([f"{m}x", "all, true tissue of each known", "", "", f"{upper_limit['mean_r2']:.3f}", "1.00"])
        for source in ("all", *(f"{k} merged" for k in MERGED)):
            values = [row_of[m, source, way]["mean_r2"] for way in READINGS]
            best = max(values)
            row = [f"{m}x", source, *(f"{value:.3f}" for value in values), f"{best / upper_limit['mean_r2']:.2f}"]
            lines.append(row)
    table = _table(["", "tokens", *READINGS, "best / true tissue known"], lines)
    each = []
    for m in (10, 20):
        for source in ("all", *(f"{k} merged" for k in MERGED)):
            row = max((row_of[m, source, way] for way in READINGS), key=lambda row: row["mean_r2"])
            each.append([f"{m}x", source, row["reading"], *(f"{row[name]:.2f}" for name in FACTOR_NAMES)])
    return [
        *table,
        "",
        "Factor by factor, the best of the three readings:",
        *_table(["", "tokens", "reading", *FACTOR_NAMES], each),
    ]


def _duplicates_table(result: dict) -> list[str]:
    rows = []
    for row in result["duplicates"]:
        merged = "none merged" if row["n_merged"] is None else str(row["n_merged"])
        logits = f"{row['logits_max']:.1e}", f"{row['logits_sd']:.1e}"
        rows.append([merged, row["case"], *logits, f"{row['embedding_moved']:.1e}"])
    return _table(["K", "case", "logits, largest change", "logits, SD of patients", "embedding moved / apart"], rows)


def markdown(result: dict) -> str:
    """The page of docs/results."""
    lines = [
        "# What aggregation saves and keeps",
        "",
        f"    {result['command']}",
        "",
        f"torch {result['torch']}, {result['processor']}, one thread, float32",
        "",
        "## Saves",
        "",
        "The student (width 128, as many tokens of 1,024 features at 10x as at 20x) with its 8 merged tokens per "
        "subspace and magnification, and without merging. CPU seconds are minima over "
        f"{result['rounds']} rounds in which both took turns; GiB is the peak above the process with model and data.",
        *_saves_table(result),
        "",
        "## Keeps",
        "",
        f"Five-fold R² of the six factors that {result['patients']} simulated slides show (visibility {VISIBILITY}), "
        "mean over the "
        "factors, by ridge regression on summaries that do not depend on the order of tokens; a token is assigned to "
        "the tissue with the nearest prototype. Clusters are those of the simulated features, without a trained "
        "model.",
        *_keeps_table(result),
        "",
        "## Duplicated tissue",
        "",
        f"A student in evaluation mode on {result['repeated_patients']} patients, once and with tissue repeated. "
        "Embeddings: "
        "mean change over mean distance of patients from their mean.",
        *_duplicates_table(result),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the minimum over them counts")
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 1000, 2500, 5000, 10_000])
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="in a minute: one count of tokens, fewer patients")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tokens, arguments.patients = [1000], 120
    torch.set_num_threads(1)
    slides, repeated = Slides(arguments.patients), min(arguments.patients, 30 if arguments.quick else 60)
    kept = keeps(slides)
    say("what merging keeps is measured")
    moved = duplicates(slides, repeated)
    rows, stops = saves(sorted(arguments.tokens), arguments.rounds)
    result = {
        "command": " ".join(["python benchmarks/aggregation.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "processor": processor(),
        "rounds": arguments.rounds,
        "patients": arguments.patients,
        "repeated_patients": repeated,
        "saves": rows,
        "stops": stops,
        "keeps": kept,
        "duplicates": moved,
    }
    text = markdown(result)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "aggregation.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "aggregation.md").write_text(text)


if __name__ == "__main__":
    main()

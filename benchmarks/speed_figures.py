"""Targets of the models' speed with their measurements, and the tables of `model_speed`."""

from __future__ import annotations

YARDSTICK = "gated ABMIL"
TAUGHT = "student under a teacher"
LINEAR_WITHIN = 1.5
"""Up to this growth of the time per token, time counts as linear in the tokens, since large arrays miss the caches."""


def _of(rows: list[dict], model: str, n_tokens: int | None = None) -> dict | None:
    matching = [row for row in rows if row["model"] == model and n_tokens in (None, row["tokens"])]
    return matching[0] if matching else None


def figures(result: dict) -> list[dict]:
    """One row per target: {"figure", "asked", "measured", "unit", "reached"}; None if it was not measured."""
    training, inference, memory = result["training"], result["inference"], result["memory"]
    million = result.get("million")
    targets = [
        ("teacher's training step, × gated ABMIL", 2.5, _of(training, "teacher"), "ratio", "×"),
        ("teacher's memory in training", 0.30, _of(memory, "teacher"), "gib", "GiB"),
        ("student's training step without a teacher, × gated ABMIL", 2.0, _of(training, "student"), "ratio", "×"),
        ("student's training step under a teacher, × gated ABMIL", 2.0, _of(training, TAUGHT), "ratio", "×"),
    ]
    for n in (2500, 10_000, 100_000):
        targets.append(
            (f"student's inference at {n:,} tokens, × gated ABMIL", 2.0, _of(inference, "student", n), "ratio", "×")
        )
    measured = [(name, target, None if row is None else row[key], unit) for name, target, row, key, unit in targets]
    growth = [per_thousand(row) for row in inference if row["model"] == "student"]
    name = "student's time a token, largest over smallest count of tokens (linear)"
    measured.append((name, LINEAR_WITHIN, growth[-1] / growth[0], "×"))
    gib = million["gib"] if isinstance(million, dict) else None
    measured.append(("student's inference at 1,000,000 tokens, beyond the features", 8.0, gib, "GiB"))
    return [
        {
            "figure": name,
            "asked": target,
            "measured": value,
            "unit": unit,
            "reached": None if value is None else value <= target,
        }
        for name, target, value, unit in measured
    ]


def per_thousand(row: dict) -> float:
    """CPU milliseconds per 1,000 tokens of each magnification."""
    return 1e6 * row["cpu_s"] / row["tokens"]


def markdown(result: dict) -> str:
    """The page of docs/results."""
    lines = [
        "# Speed and memory of the models",
        "",
        "One thread, float32, one patient with as many tokens of 1,024 features at 10x as at 20x, width 128. A training "
        "step is forward, all losses, backward and AdamW; with all parts (deformable fusion, consistency, decorrelation), and "
        "with the paper's fusion, gradient coordination as well. CPU and wall seconds are minima over "
        f"{result['rounds']} rounds (at 100,000 tokens at most 5) in which all took turns; ratios are of CPU seconds.",
        "",
        f"    {result['command']}",
        "",
        f"torch {result['torch']}, {result['processor']}",
        "",
        "| figure | target | measured | |",
        "|---|---|---|---|",
    ]
    for row in result["figures"]:
        value = "—" if row["measured"] is None else f"{row['measured']:.2f} {row['unit']}"
        verdict = {None: "not measured", True: "reached", False: "**missed**"}[row["reached"]]
        lines.append(f"| {row['figure']} | ≤ {row['asked']:g} {row['unit']} | {value} | {verdict} |")
    lines += [
        "",
        "Training step",
        "",
        "| model | tokens a scale | CPU s | wall s | × gated ABMIL |",
        "|---|---|---|---|---|",
    ]
    for row in result["training"]:
        lines.append(
            f"| {row['model']} | {row['tokens']:,} | {row['cpu_s']:.4f} | {row['wall_s']:.4f} | {row['ratio']:.2f} |"
        )
    lines += [
        "",
        "In a fit the teacher predicts each training patient once, when distillation begins, and its outputs are "
        "kept: this costs one pass of the teacher over the training patients, which is not included in the step's "
        "time. A teacher whose outputs are not kept (in a custom loop without `cache_teacher_outputs`) predicts at "
        "every step.",
        "",
        "Inference",
        "",
    ]
    lines += [
        "| model | tokens a scale | CPU s | wall s | × gated ABMIL | CPU ms per 1,000 tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["inference"]:
        lines.append(
            f"| {row['model']} | {row['tokens']:,} | {row['cpu_s']:.4f} | {row['wall_s']:.4f} | {row['ratio']:.2f} | "
            f"{per_thousand(row):.2f} |"
        )
    lines += ["", "A TransMIL-like network on 100,000 tokens takes more than a minute per pass, and is left out."]
    return "\n".join(lines + _memory(result)) + "\n"


def _memory(result: dict) -> list[str]:
    lines = ["", "Peak memory of three training steps above the process with model and data, GiB", ""]
    lines += ["| model | tokens a scale | from the first step | after a step on 8 tokens |", "|---|---|---|---|"]
    for row in result["memory"]:
        warm = "—" if row["gib_warm"] is None else f"{row['gib_warm']:.3f}"
        lines.append(f"| {row['model']} | {row['tokens']:,} | {row['gib']:.3f} | {warm} |")
    million = result.get("million")
    if isinstance(million, dict):
        lines += [
            "",
            f"The {million['model']} on {million['tokens']:,} tokens a scale (float16 features, not counted): "
            f"{million['gib']:.2f} GiB, {million['cpu_s']:.1f} CPU s, {million['wall_s']:.1f} s.",
        ]
    elif million:
        lines += ["", f"1,000,000 tokens a scale: {million}"]
    return lines

"""Page of the ablation in docs/results."""

from __future__ import annotations

from typing import Any

from ablation_summary import with_interval
from ablation_variants import BY_NAME, STUDENT, TEACHER

from dmml.types import SUBSPACES

TITLES = {TEACHER: "Teacher: slides and RNA", STUDENT: "Student: slides alone"}
CEILINGS = {
    "shown": "no model: the factors as the slide shows them",
    "taught": "a ridge of the tokens' mean, taught the true factors",
}
YES_NO = {True: "yes", False: "**no**", None: "—"}


def markdown(summary: dict[str, Any]) -> str:
    """The page of docs/results."""
    return "\n".join(
        [
            *_head(summary),
            *_figures(summary["figures"]),
            *_limits(summary),
            *(line for kind in (TEACHER, STUDENT) for line in _variants(kind, summary["variants"])),
            *_distillation(summary),
            *(line for kind in (TEACHER, STUDENT) for line in _factors(kind, summary)),
            "",
        ]
    )


def _head(summary: dict[str, Any]) -> list[str]:
    settings, seeds = summary["settings"], summary["seeds"]
    lines = [
        "# Each contribution alone",
        "",
        f"Simulated patients whose factors are known: {settings['train']} for training, {settings['val']} to choose the "
        f"epoch, {settings['test']} tested once, drawn anew for each of the seeds {', '.join(map(str, seeds))}; a "
        "slide shows "
        f"every factor with a correlation of {settings['visibility']:g}{_hardness(settings)}. Width "
        f"{settings['width']}, at most "
        f"{settings['epochs']} epochs, batches of {settings['batch_size']}, all other settings at their defaults.",
        "",
        "Concordance is the mean over seeds. Intervals are 95 % of a paired bootstrap of the test patients, within seeds "
        "and events; they do not cover the randomness of a fit, which the values by seed show. `p` is adjusted "
        "(Holm) over the table, except for the student without distillation, the primary comparison. A default is "
        "called better only if the adjusted p is below 0.05, and worse as soon as the interval of the difference "
        "lies above 0. The "
        "defaults were chosen on seeds 0 to 4, whose fits are not kept.",
        "",
        f"    {summary['command']}",
        "",
    ]
    if len(summary["code"]) > 1:
        lines += [f"The fits were made by {len(summary['code'])} states of the code: {', '.join(summary['code'])}.", ""]
    return lines


def _hardness(settings: dict[str, Any]) -> str:
    """Irrelevant differences between slides, and the end of follow-up."""
    more = ""
    if settings["nuisance"]:
        more += ", and differs from others in 20 irrelevant directions, too"
    return more + ("; follow-up ends early, so that a third has the event" if settings["early_end"] else "")


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| target | measured | reached |", "|---|---|---|"]
    return [*lines, *(f"| {row['asked']} | {row['measured']} | {YES_NO[row['reached']]} |" for row in rows), ""]


def _limits(summary: dict[str, Any]) -> list[str]:
    """Upper limits of a student."""
    lines = []
    if ceilings := summary["ceilings"]:
        from_visible, from_tokens = (
            " and ".join(f"{ceilings[of]['partial_r2'][s]['own']:.2f}" for s in SUBSPACES) for of in ("shown", "taught")
        )
        lines += [
            "A student reads factors as the slide shows them. From these themselves, the R² of the true factors is "
            f"{from_visible}, and a ridge regression of the true factors on mean tokens reaches {from_tokens}: 0.7 cannot be "
            "reached from these slides. "
            "That a student carries more of the other subspace's factors than a teacher is inherent: both of its "
            "subspaces read the same tokens, without measured genes.",
            "",
        ]
    without = summary["variants"].get("student-no-aggregation")
    if without and without["difference"]:
        lines += [
            f"Aggregation costs the student concordance here (without it {with_interval(without['difference'])}); it "
            "stays the default because it saves time and memory: attention among all tokens is quadratic "
            "([aggregation](aggregation.md), "
            "[speed](model_speed.md)).",
            "",
        ]
    return lines


def _variants(kind: str, variants: dict[str, dict[str, Any]]) -> list[str]:
    rows = {name: row for name, row in variants.items() if BY_NAME[name].kind == kind}
    if not rows:
        return []
    lines = [
        f"## {TITLES[kind]}",
        "",
        "| variant | what differs | concordance | minus the default | p | seed by seed | effect | epoch | s a fit |",
        "|" + "---|" * 9,
    ]
    for name, row in rows.items():
        comparison = row["difference"]
        cells = [f"`{name}`", row["change"], _concordance(row), *_compared(comparison), row["effect"]]
        lines.append("| " + " | ".join([*cells, f"{row['best_epoch']:.0f}", f"{row['seconds']:.0f}"]) + " |")
    return [*lines, ""]


def _concordance(row: dict[str, Any]) -> str:
    if row["c_index"] is None:
        return f"not finite (seed {', '.join(map(str, row['not_finite']))})"
    return _range(row["c_index"])


def _compared(comparison: dict[str, Any] | None) -> list[str]:
    if comparison is None:
        return ["", "", ""]
    return [with_interval(comparison), f"{comparison.get('p_holm', comparison['p']):.3f}", _seeds(comparison)]


def _distillation(summary: dict[str, Any]) -> list[str]:
    lines = ["## Gain by distillation", "", "| reference | concordance |", "|---|---|"]
    titles = {
        "oracle": "oracle: the true risk",
        "slide-oracle": "slide oracle: the risk that the shown factors let expect",
    }
    lines += [f"| {titles[name]} | {_range(comparison)} |" for name, comparison in summary["references"].items()]
    pairs = {name: comparison for name, comparison in summary["distillation"].items() if name != "share_closed"}
    lines += ["", "| pair | difference | p, unadjusted | seed by seed |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {with_interval(comparison)} | {comparison['p']:.3f} | {_seeds(comparison)} |"
        for name, comparison in pairs.items()
    ]
    return [*lines, ""]


def _factors(kind: str, summary: dict[str, Any]) -> list[str]:
    variants = summary["variants"].items()
    rows = {f"`{name}`": row for name, row in variants if BY_NAME[name].kind == kind and row["partial_r2"]}
    if not rows:
        return []
    if kind == STUDENT:  # upper limits of slides apply to models that read nothing else
        rows |= {CEILINGS[reading]: row for reading, row in summary["ceilings"].items()}
    lines = [
        f"## Factors in the embeddings: {kind}",
        "",
        "Partial R² of a subspace's own factors given the other's, and of the other's given its own, predicted by a "
        "cross-validated ridge regression from the embeddings of the test patients; for the true factors, and for "
        "the factors as the slide shows them.",
        "",
        "| variant | tumor own | TME own | tumor other's | TME other's | shown: tumor own | TME own | tumor other's "
        "| TME other's |",
        "|" + "---|" * 9,
    ]
    for name, row in rows.items():
        cells = [
            f"{row[which][s][of]:.2f}"
            for which in ("partial_r2", "partial_r2_shown")
            for of in ("own", "other")
            for s in SUBSPACES
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _range(interval: dict[str, Any]) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f}–{interval['high']:.3f})"


def _seeds(comparison: dict[str, Any]) -> str:
    return ", ".join(f"{value:+.3f}" for value in comparison["by_seed"])

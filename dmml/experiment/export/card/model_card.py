"""Writes the model card of an exported student: data, split, figures with intervals, limits and intended use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dmml._version import __version__
from dmml.data.encoder_match import MIN_TISSUE_KEY
from dmml.evaluation.caveats import OVERLAP
from dmml.evaluation.report.formatting import number, percent
from dmml.evaluation.report.text.metric_names import metric_name
from dmml.experiment.export.card.licences import encoder_licence
from dmml.experiment.export.card.model_record import ModelRecord, Tested
from dmml.experiment.export.names import value_in_words
from dmml.store.encoder_identity import describe_stains

if TYPE_CHECKING:
    from dmml.experiment.export.conversion import Interface
    from dmml.experiment.export.verification import Agreement

_SMALL_COHORT = 100
"""Number of training patients below which the card warns of a small cohort"""


def model_card(record: ModelRecord, interface: Interface, agreements: Sequence[Agreement]) -> str:
    """Return the card as Markdown."""
    title = f"# Model card: {record.identity['run']}"
    sections = (
        ("What it is", _model(record)),
        ("Intended use", _use(record)),
        ("Inputs", _inputs(record)),
        ("Training data", _data(record)),
        ("Performance", _performance(record)),
        ("Limits", _limits(record)),
        ("Outputs of the graph", _table(("output", "meaning"), ((f"`{x.name}`", x.text) for x in interface.outputs))),
        ("Agreement of the files with PyTorch", _agreement(agreements)),
        ("Origin", _origin(record)),
    )
    return "\n\n".join([title, *(f"## {heading}\n\n{text}" for heading, text in sections)]) + "\n"


def outcome_text(task: Mapping[str, Any]) -> str:
    """Say what a model predicts."""
    if task["task"] == "survival":
        edges = ", ".join(f"{day:g}" for day in task.get("edges") or ())
        return f"time to an event in discrete intervals (edges: {edges} days; end: {task.get('end'):g} days)"
    if task.get("classes"):
        return f"one of the classes {', '.join(task['classes'])}"
    if task["task"] == "regression":
        return f"a continuous value: {value_in_words(task)}"
    return str(task["task"])


def counts_text(counts: Mapping[str, int]) -> str:
    """Put the numbers of patients of a part into words."""
    names = {"with_rna": "with RNA", "left_out": "left out for having neither slides nor RNA"}
    return ", ".join(f"{n} {names.get(name, name.replace('_', ' '))}" for name, n in counts.items()) or "not on record"


def extraction_text(extraction: Mapping[str, Any]) -> str:
    """Put the record of an extraction into words; empty if there is none."""
    names = {
        "tissue": "tissue found by the method",
        MIN_TISSUE_KEY: "smallest share of tissue of a tile",
        "precision": "bits of the encoder's numbers",
    }
    return ", ".join(f"{names.get(key, key.replace('_', ' '))} {value}" for key, value in extraction.items())


def _model(record: ModelRecord) -> str:
    share = ""
    if record.deep_share is not None:
        share = (
            f" The linear backbone makes the prediction, and the deep part has a share of {record.deep_share:g} in it, "
            "chosen on the inner validation patients."
        )
    sets = sum(map(len, record.programs.values()))
    programs = f" It predicts {sets} expression programs ({record.gene_set_source})." if sets else ""
    return (
        f"A student of dmml {__version__}, which predicts {outcome_text(record.task)} from histology alone. It was trained "
        f"with slides and, where a teacher was used, RNA.{share}{programs} It has {record.n_parameters:,} trained parameters."
    )


def _use(record: ModelRecord) -> str:
    return (
        "Research on patients who resemble those of the training cohort, with slides that were scanned, tiled and encoded "
        "in the same way. It is not a medical device, and no decision about a patient may rest on it.\n\n"
        "Out of scope: other diseases, stains or specimens than those of the training cohort; any use before an evaluation "
        "on patients of the place where it is to be used.\n\n"
        "*The author adds:* the target population, the point in the care pathway, and the intended users."
    )


def _inputs(record: ModelRecord) -> str:
    encoder = record.encoder
    scales = ", ".join(f"{m}x ({10 / m:g} µm per pixel)" for m in record.magnifications)
    side = record.fitted.get("tile_px")
    size = f" of {side} × {side} px" if side else ""
    lines = [
        f"- Tiles{size} at {scales}, with positions in µm.",
        f"- Encoder `{encoder.get('name')}`, weights `{encoder.get('weights')}`, {encoder.get('dim')} features per tile.",
        f"- Licence of the encoder's weights: {encoder_licence(str(encoder.get('name')))}.",
        f"- Tiles {describe_stains(encoder)}.",
    ]
    if record.extraction:
        lines.append(f"- Extraction of the training slides: {extraction_text(record.extraction)}.")
    return "\n".join(lines)


def _data(record: ModelRecord) -> str:
    fold = record.fitted.get("fold")
    lines = [
        f"- Cohort: {record.fitted.get('cohort') or 'not on record'}; {record.fitted.get('n_training')} training patients.",
        f"- Training part: {counts_text(record.counts('train'))}.",
        f"- Inner validation, on which epochs and the share of the deep part are chosen: {counts_text(record.counts('val'))}.",
        "- Split: "
        + (
            "all patients of the cohort are for development."
            if fold is None
            else f"fold {fold} of the cohort is left out for testing."
        ),
        f"- Everything that is fitted was fitted on these patients alone; hashes of the files: {_hashes(record)}.",
        "- *The author adds:* source, dates, centres, eligibility and treatments; see `tripod_ai.md`.",
    ]
    return "\n".join(lines)


def _hashes(record: ModelRecord) -> str:
    return ", ".join(f"{name} `{digest}`" for name, digest in (record.fitted.get("hashes") or {}).items()) or "none"


def _performance(record: ModelRecord) -> str:
    parts = [_test(test) for test in record.tests]
    if not parts:
        parts = [
            "No test of this checkpoint lies next to it, so this card has no figures. Run `dmml test` and export again; a "
            "model without an evaluation on other patients says nothing about new ones."
        ]
    if record.other_tests:
        parts.append(f"Results of other checkpoints in the same run are left out: {', '.join(record.other_tests)}.")
    return "\n\n".join(parts)


def _test(test: Tested) -> str:
    rows = []
    for name, entry in test.metrics.items():
        if not isinstance(entry, Mapping) or "value" not in entry:
            continue
        label, reading = metric_name(name)
        rows.append((label, number(entry["value"], 3), _interval(entry), _patients(entry), reading))
    table = _table(("figure", "value", "interval", "patients", "how to read it"), rows)
    seen = test.context.get(OVERLAP)
    warning = f"\n\n**Warning:** {seen['n']} of {seen['of']} tested patients were training patients." if seen else ""
    return f"Tested on **{test.name}**:\n\n{table}{warning}"


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("low") is None or entry.get("high") is None:
        return "—"
    level = f" ({percent(entry['interval_level'])})" if entry.get("interval_level") else ""
    return f"{number(entry['low'], 3)} to {number(entry['high'], 3)}{level}"


def _patients(entry: Mapping[str, Any]) -> str:
    if entry.get("n") is None:
        return "—"
    return f"{entry['n']}, {entry['events']} events" if entry.get("events") is not None else str(entry["n"])


def _limits(record: ModelRecord) -> str:
    lines = [
        "- It is only as good as the figures above on patients like those of the tests; another scanner, laboratory or "
        "population can be worse.",
        "- Attention and predicted programs describe the model, and prove no mechanism.",
        "- A patient without tiles at one magnification is predicted from the others; without any tile there is no prediction.",
    ]
    n = record.fitted.get("n_training")
    if n is not None and n < _SMALL_COHORT:
        lines.append(
            f"- It was trained on {n} patients, which is few; its predictions are uncertain beyond the intervals above."
        )
    if record.task["task"] == "survival" and record.task.get("end"):
        lines.append(f"- Survival is undefined after {record.task['end']:g} days, the end of the last interval.")
    if record.deep_share == 0:
        lines.append("- The deep part has no share in the prediction, so its attention does not explain it.")
    lines.append("- Fairness between groups of patients was not examined, unless the author states it.")
    return "\n".join(lines)


def _agreement(agreements: Sequence[Agreement]) -> str:
    rows = [(a.case.text(), f"{a.onnx:.1e}", f"{a.torch_export:.1e}") for a in agreements]
    return "Largest absolute difference of any output, on simulated patients:\n\n" + _table(
        ("patient", "ONNX Runtime", "torch.export"), rows
    )


def _origin(record: ModelRecord) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in (record.provenance.get("versions") or {}).items())
    identity = record.identity
    return "\n".join(
        [
            f"- Checkpoint `{identity['sha256']}` (first digits of SHA-256), epoch {identity['epoch']}, class `{identity['class']}`.",
            f"- Trained by `{record.provenance.get('command', 'a command that is not on record')}`; finished "
            f"{record.provenance.get('finished', 'at a time that is not on record')}.",
            f"- Versions in training: {versions or 'not on record'}.",
            "- Licence of the model: *the author states it*; licences of the encoder and of the data bind it.",
        ]
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars within cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)

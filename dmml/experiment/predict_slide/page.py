"""Renders the answer on one patient's slides as a self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmml.atomic_files import write_text
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import SUBSPACE_COLOR
from dmml.evaluation.report.formatting import number, percent, signed
from dmml.evaluation.report.pages import TEMPLATES
from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import TISSUE, Answer, extremes
from dmml.experiment.predict_slide.explain.explanation import Explanation
from dmml.experiment.predict_slide.explain.page_parts import page_parts
from dmml.experiment.predict_slide.maps import Thumbnail, TileMap, encoded
from dmml.html_pages import data_uri, render_page, unbroken
from dmml.store.encoder_identity import describe_stains

_SUBSPACES = (("tumor", "Tumor"), ("tme", "Tumor microenvironment (TME)"))
_PARTS = (("tumor", "tumor"), ("tme", "TME"), (TISSUE, "tissue-specific"))


def write_page(
    path: Path,
    answer: Answer,
    record: dict[str, Any],
    thumbnails: list[Thumbnail],
    maps: list[TileMap],
    outcome: Plot | None,
    explanation: Explanation,
) -> None:
    """Render the page.

    Args:
        path: File to write.
        answer: The model's answer.
        record: Content of `prediction.json`.
        thumbnails: The slides.
        maps: Overlays on the slides.
        outcome: Survival curve or classes.
        explanation: Tests of the maps, and sheets of tiles.
    """
    from markupsafe import Markup

    style = TEMPLATES / "report.css"
    page = render_page(
        Path(__file__).parent / "slide_page.html",
        TEMPLATES,
        title=record["patient"],
        css=style.read_text(encoding="utf-8"),
        headline=unbroken(text.headline(answer, record["model"])),
        outlook=unbroken(text.outlook(answer)),
        warnings=record["limits"]["warnings"],
        promise=[unbroken(sentence) for sentence in record["limits"]["sentences"]],
        notes=record["notes"],
        research_use=text.RESEARCH_USE,
        # Markup is safe here: `inline_svg` writes XML in which every text is escaped.
        outcome=outcome
        and {"svg": Markup(outcome.inline_svg("c")), "alt": outcome.description, "caption": outcome.caption},
        slides=[_slide(each, [m for m in maps if m.slide_id == each.slide_id]) for each in thumbnails],
        how_certain=text.how_certain(answer),
        subspaces=unbroken(text.subspaces(answer)),
        what_decides=unbroken(text.what_decides(answer)),
        tile_colours=text.tile_colours(answer),
        tile_table=_tile_table(answer, is_divided=explanation.deep is not None),
        **page_parts(explanation),
        prototypes=[unbroken(sentence) for sentence in text.prototypes(answer)],
        views=_views(answer),
        programs=[_programs(s, title, answer.programs[s]) for s, title in _SUBSPACES if answer.programs.get(s)],
        provenance=_provenance(record),
        command=record["command"],
        version=record["versions"]["dmml"],
        written=record["created"],
    )
    write_text(path, page)


def _slide(thumbnail: Thumbnail, maps: list[TileMap]) -> dict[str, Any]:
    panels: dict[str, list[dict[str, str]]] = {"all": [], "part": [], "prototype": [], "attention": []}
    for tile_map in maps:
        uri = data_uri(encoded(tile_map.untitled, "JPEG", quality=88), "jpeg")
        panels[tile_map.kind].append({"uri": uri, "title": tile_map.title, "caption": tile_map.caption})
    return {"name": thumbnail.slide_id, "whole": data_uri(thumbnail.jpeg(), "jpeg"), **panels}


def _views(answer: Answer) -> dict[str, Any]:
    """Make a table of the headline's value: rows are magnifications, and columns the parts that are left out."""
    column = answer.headline.column

    def cell(view: dict[str, float]) -> str:
        return number(view[column], 2)

    parts = [(part, name) for part, name in _PARTS if part in answer.without]
    rows = [
        {"name": f"{m}×", "cells": [cell(answer.without_by_magnification[m, p]) for p, _ in parts] + [cell(view)]}
        for m, view in sorted(answer.views.items())
    ]
    together = [cell(answer.without[p]) for p, _ in parts] + [cell(answer.prediction)]
    columns = [f"without {name}" for _, name in parts] + ["all parts"]
    return {
        "caption": answer.headline.name,
        "columns": columns,
        "rows": [*rows, {"name": "together", "cells": together}],
    }


def _tile_table(answer: Answer, is_divided: bool = False) -> dict[str, Any] | None:
    """Make a table of what all tiles of a magnification add to each part; None if nothing is divided among tiles.

    Args:
        answer: The answer.
        is_divided: Whether the deep part is divided among tiles, too.
    """
    tiles = answer.tiles
    if tiles is None:
        return None
    rows = {f"all tiles at {m}×": {p: tiles.sums.get((m, p), 0.0) for p, _ in _PARTS} for m in tiles.magnifications}
    if tiles.deep_share:
        rows["error of the division" if is_divided else "deep part, not divided among tiles"] = tiles.undivided
    rows |= {"the mean training patient": tiles.constant, "together": tiles.together}

    def cells(row: dict[str, float]) -> list[str]:
        return [signed(value) for value in (*(row[p] for p, _ in _PARTS), sum(row.values()))]

    columns = [name for _, name in _PARTS] + ["all parts"]
    return {
        "caption": f"Contributions to the answer, in {text.tile_unit(answer)}",
        "columns": columns,
        "rows": [{"name": name, "cells": cells(row)} for name, row in rows.items()],
    }


def _programs(subspace: str, title: str, scores: dict[str, float]) -> dict[str, Any]:
    """Return the highest and lowest programs, with the position of their bars in percent of the widest one."""
    high, low = extremes(scores)
    listed = [*high, *reversed(low)]
    widest = max(max(abs(score) for _, score in listed), 1e-9)
    rows = [
        {
            "name": text.program_name(name),
            "full": name,
            "value": signed(score),
            "left": 50 + min(0.0, 50 * score / widest),
            "width": 50 * abs(score) / widest,
        }
        for name, score in listed
    ]
    return {"title": title, "color": SUBSPACE_COLOR[subspace], "rows": rows, "n": len(scores), "gap": len(high)}


def _provenance(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of everything that the answer was made from."""
    model, encoder, backbone = record["model"], record["encoder"], record.get("backbone")
    shares = []
    if backbone:
        deep, programs = percent(backbone["deep_share"]), percent(backbone["program_share"])
        shares = [("share of the deep part", f"{deep} in the answer, {programs} in the programs")]
    rows = []
    for slide in record["slides"]:
        prefix = f"{slide['slide_id']}: " if len(record["slides"]) > 1 else ""
        tiles = ", ".join(f"{n} at {m}×" for m, n in slide["tiles"].items())
        rows += [
            (f"{prefix}file", slide["source"]),
            (f"{prefix}size", f"{slide['dimensions'][0]:,} × {slide['dimensions'][1]:,} px"),
            (f"{prefix}µm per pixel", f"{slide['mpp']:.4g}, from {slide['mpp_source']}"),
            (f"{prefix}opened by", slide["reader"]),
            (f"{prefix}tissue", f"{slide['tissue_mm2']:.3g} mm²"),
            (f"{prefix}tiles", tiles),
            *(
                [(f"{prefix}regions read", f"{roi['file']}, sha256 {roi['sha256'][:16]}…")]
                if (roi := slide.get("roi"))
                else []
            ),
        ]
    tiles = record["tiles_chosen"]
    as_in_training = ", as in training" if tiles["as_in_training"] else ""
    tissue = f"by {tiles['tissue']}, at least {100 * tiles['min_tissue']:g} % of a tile{as_in_training}"
    return [
        *rows,
        ("tissue found", tissue),
        ("run", model["run"]),
        ("checkpoint", f"{Path(model['checkpoint']).name}, sha256 {model['sha256']}…"),
        ("model", model["class"].rsplit(".", 1)[-1]),
        *shares,
        ("trained on", f"{model['training_cohort'] or 'unknown'}, {model['n_training'] or 'unknown'} patients"),
        ("encoder", encoder["name"]),
        ("colours of tiles", describe_stains(encoder)),
        ("encoder weights", f"sha256 {encoder['weights'][:16]}…, the same as in training"),
    ]

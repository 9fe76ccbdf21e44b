"""Renders the answer on one patient's slides as a self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from dmml.atomic_files import write_text
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import SUBSPACE_COLOR
from dmml.evaluation.report.formatting import number, percent, signed
from dmml.evaluation.report.pages import TEMPLATES
from dmml.experiment.predict_slide import text as slide_words
from dmml.experiment.predict_slide.answer import TISSUE, Answer, extremes
from dmml.experiment.predict_slide.maps import SlidePicture, TileMap, encoded
from dmml.html_pages import data_uri, render_page, unbroken

_SUBSPACES = (("tumor", "Tumor"), ("tme", "Tumor microenvironment (TME)"))
_PARTS = (("tumor", "tumor"), ("tme", "TME"), (TISSUE, "tissue-specific"))


def write_page(
    path: Path,
    answer: Answer,
    record: dict[str, Any],
    pictures: list[SlidePicture],
    maps: list[TileMap],
    outcome: Plot | None,
) -> None:
    """Render the page.

    Args:
        path: File to write.
        answer: The model's answer.
        record: Content of `prediction.json`.
        pictures: The slides.
        maps: Overlays on the slides.
        outcome: Survival curve or classes.
    """
    from markupsafe import Markup

    style = TEMPLATES / "report.css"
    page = render_page(
        Path(__file__).parent / "slide_page.html",
        title=record["patient"],
        css=style.read_text(encoding="utf-8"),
        headline=unbroken(slide_words.headline(answer, record["model"])),
        outlook=unbroken(slide_words.outlook(answer)),
        notes=record["notes"],
        research_use=slide_words.RESEARCH_USE,
        # Markup is safe here: `inline_svg` writes XML in which every text is escaped.
        outcome=outcome
        and {"svg": Markup(outcome.inline_svg("c")), "alt": outcome.description, "caption": outcome.caption},
        slides=[_slide(picture, [m for m in maps if m.slide_id == picture.slide_id]) for picture in pictures],
        how_sure=slide_words.how_sure(answer),
        subspaces=unbroken(slide_words.subspaces(answer)),
        decides=unbroken(slide_words.what_decides(answer)),
        tile_colours=slide_words.tile_colours(answer),
        tile_table=_tile_table(answer),
        views=_views(answer),
        programs=[_programs(s, title, answer.programs[s]) for s, title in _SUBSPACES if answer.programs.get(s)],
        facts=_facts(record),
        command=record["command"],
        version=record["versions"]["dmml"],
        written=record["created"],
    )
    write_text(path, page)


def _slide(picture: SlidePicture, maps: list[TileMap]) -> dict[str, Any]:
    plain = encoded(Image.fromarray(picture.thumbnail), "JPEG", quality=85)
    panels = {"all": [], "part": [], "attention": []}
    for each in maps:
        uri = data_uri(encoded(each.plain, "JPEG", quality=88), "jpeg")
        panels[each.kind].append({"uri": uri, "title": each.title, "caption": each.caption})
    return {"name": picture.slide_id, "plain": data_uri(plain, "jpeg"), **panels}


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
    return {"what": _column_words(answer), "columns": columns, "rows": [*rows, {"name": "together", "cells": together}]}


def _tile_table(answer: Answer) -> dict[str, Any] | None:
    """Make a table of what all tiles of a magnification add to each part; None for a model without a backbone."""
    tiles = answer.tiles
    if tiles is None:
        return None
    rows = {f"all tiles at {m}×": {p: tiles.sums.get((m, p), 0.0) for p, _ in _PARTS} for m in tiles.magnifications}
    if tiles.deep_share:
        rows["deep part, not divided among tiles"] = tiles.undivided
    rows |= {"the mean training patient": tiles.constant, "together": tiles.together}

    def cells(row: dict[str, float]) -> list[str]:
        return [signed(value) for value in (*(row[p] for p, _ in _PARTS), sum(row.values()))]

    columns = [name for _, name in _PARTS] + ["all parts"]
    return {
        "what": f"In {slide_words.tile_unit(answer)}",
        "columns": columns,
        "rows": [{"name": name, "cells": cells(row)} for name, row in rows.items()],
    }


def _column_words(answer: Answer) -> str:
    from dmml.evaluation.report.formatting import horizon_name

    if answer.headline.day is not None:
        return f"Chance of being event-free after {horizon_name(answer.headline.day)}"
    return f"Probability of {answer.headline.label}" if answer.headline.label else answer.headline.column


def _programs(subspace: str, title: str, scores: dict[str, float]) -> dict[str, Any]:
    """Return the highest and lowest programs, with the position of their bars in percent of the widest one."""
    high, low = extremes(scores)
    shown = [*high, *reversed(low)]
    widest = max(max(abs(score) for _, score in shown), 1e-9)
    rows = [
        {
            "name": slide_words.program_name(name),
            "full": name,
            "value": signed(score),
            "left": 50 + min(0.0, 50 * score / widest),
            "width": 50 * abs(score) / widest,
        }
        for name, score in shown
    ]
    return {"title": title, "color": SUBSPACE_COLOR[subspace], "rows": rows, "n": len(scores), "gap": len(high)}


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    model, encoder, backbone = record["model"], record["encoder"], record.get("backbone")
    shares = []
    if backbone:
        deep, programs = percent(backbone["deep_share"]), percent(backbone["program_share"])
        shares = [("deep part beside the backbone", f"{deep} of it in the answer, {programs} in the programs")]
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
        ]
    return [
        *rows,
        ("run", model["run"]),
        ("checkpoint", f"{Path(model['checkpoint']).name}, sha256 {model['sha256']}…"),
        ("model", model["class"].rsplit(".", 1)[-1]),
        *shares,
        ("trained on", f"{model['training_cohort'] or 'unknown'}, {model['n_training'] or 'unknown'} patients"),
        ("encoder", encoder["name"]),
        ("encoder weights", f"sha256 {encoder['weights'][:16]}…, the same as in training"),
    ]

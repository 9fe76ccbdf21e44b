"""The page of `prototype_maps.py`, and its picture: held-out slides with their true regions and predicted clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from dmml.evaluation.plots.style import SUBSPACE_COLOR
from dmml.evaluation.statistics.tile_maps import TME, TUMOR
from dmml.slides.overlay import overlay_groups
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.store import FeatureStore

COMMAND = "python benchmarks/prototype_maps.py --out docs/results"
PAPER = {"tumor_dice": 0.52, "tumor_recall": 0.71, "tme_accuracy": 0.60}
COLUMNS = {
    "tumor_dice": "tumor: Dice",
    "tumor_recall": "tumor: recall",
    "tme_accuracy": "TME: accuracy",
    "tme_precision": "TME: precision",
    "tumor_share": "tiles in the tumor cluster",
}
NAMES = {
    "distilled": "**distilled student**",
    "undistilled": "student without a teacher",
    "distilled_named_once": "distilled, named by the truth once for all slides of a seed",
    "distilled_named_better": "distilled, named by the truth on each slide",
    "undistilled_named_once": "without a teacher, named once",
    "undistilled_named_better": "without a teacher, named on each slide",
    "all_tumor": "all tiles tumor",
    "random": "distilled, clusters of the same sizes dealt at random",
    "random_named_better": "dealt at random, named on each slide",
    "two_means": "2-means on the slide's features, named on each slide",
    "taught_tiles": "logistic regression taught the regions of training tiles",
}
_GROUPS = [("tumor", SUBSPACE_COLOR["tumor"]), ("TME, or other tissue", SUBSPACE_COLOR["tme"])]
_PANEL, _GAP = 260, 8


def page(results: dict[str, Any]) -> str:
    """Markdown of the results."""
    settings, lines = results["settings"], []
    lines += [
        "# Cluster maps against true regions",
        "",
        "The paper compares the two clusters of its distilled student with IvyGAP's region annotation on eight slides (its "
        f"figure 8): mean Dice {PAPER['tumor_dice']:.2f} and recall {PAPER['tumor_recall']:.2f} of the tumor cluster, mean "
        f"accuracy {PAPER['tme_accuracy']:.2f} of the TME cluster. Here the same is measured on simulated slides, whose "
        "regions are known.",
        "",
        f"    {COMMAND}",
        "",
        f"{settings['patients']} patients of a development cohort and {settings['held_out']} held-out patients with "
        f"{settings['slides']} slides from other sites with another stain (`dmml simulate`), extracted with the default "
        "encoder. Teacher and students are those of `configs/paper/survival.yaml` and `survival_student.yaml`, on all "
        f"development patients, with {settings['epochs']} epochs (students: as many of warm-up and of distillation) instead "
        f"of 10 because the cohort is small, and the seeds {' and '.join(map(str, settings['seeds']))}; the student without a "
        f"teacher has the seed {settings['seeds'][0]} alone. The maps are those of `dmml predict-slide`.",
        "",
        "**What is counted.** Tiles, slide by slide, at each magnification. A tile is tumor if tumor is its most frequent "
        "tissue; stroma, normal tissue and lymphoid aggregates count as microenvironment. Dice and recall compare the tiles "
        "of the tumor cluster with the tumor tiles. Accuracy is the share of all tiles that are in the TME cluster exactly if "
        "they are not tumor; since each tile is in one of two clusters, it is also the accuracy of the tumor cluster. "
        "Precision, the share of the TME cluster that is not tumor, is the other thing that *accuracy of the TME clusters* "
        "may mean. The paper does not say which it takes, nor whether it counts tiles or pixels. Values are means over "
        "slides and seeds, with the 95 % bootstrap interval over slides.",
    ]
    for m in (10, 20):
        block = results["magnifications"][str(m)]
        lines += [
            "",
            f"## {m}x",
            "",
            f"{block['tiles']} tiles on {block['slides']} slides, {100 * block['tumor']:.0f} % of them tumor.",
            "",
            "| map | " + " | ".join(COLUMNS.values()) + " |",
            "|---|" + "---|" * len(COLUMNS),
        ]
        for name, label in NAMES.items():
            row = block["maps"][name]
            lines.append(f"| {label} | " + " | ".join(_cell(row[column]) for column in COLUMNS) + " |")
        lines += ["", *_sentences(block)]
    lines += [
        "",
        "Dice and recall alone do not show that a map is better than none: a map on which all tiles are tumor has a recall of 1 "
        "and the Dice that the table gives. The paper names no such reference, and no share of tumor tiles. To choose the "
        "better of two names on each slide raises the accuracy even of random clusters, all the more with few tiles. The "
        "logistic regression shows what the features of the encoder tell of a tile's tissue across the change of stain.",
        "",
        "These slides are small (about 9 tiles at 10x and 23 at 20x), many tiles hold several tissues, and nothing in the "
        "paper's training says which cluster is the tumor's, except the distance to the teacher's embeddings. On slides with "
        "thousands of tiles the clusters may differ.",
        "",
        "## Pictures",
        "",
        f"![slides, true regions and clusters]({results['picture']})",
        "",
        f"Three held-out slides at 20x, {results['pictured']}.",
        "",
    ]
    return "\n".join(lines)


def _cell(value: dict[str, float]) -> str:
    if value["low"] is None:
        return "–"
    return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def _sentences(block: dict[str, Any]) -> list[str]:
    lines = []
    for name, random, what in (
        ("distilled", "random", "as the model names them"),
        ("distilled_named_better", "random_named_better", "named by the truth on each slide"),
    ):
        of_model, of_random = (block["maps"][each]["tme_accuracy"] for each in (name, random))
        is_above = of_model["low"] > of_random["value"]
        verdict = "are better than" if is_above else "cannot be told from"
        lines.append(
            f"- The distilled student's clusters, {what}, {verdict} clusters dealt at random: accuracy {_cell(of_model)}, at "
            f"random {of_random['value']:.2f}."
        )
    edge = block["edge"]
    lines.append(
        "- Against another division of the tiles, those at the edge of the tissue (more than 10 % glass) and the others, the "
        f"accuracy of the distilled student's clusters, named on each slide, is {edge['clusters']:.2f}, and that of clusters "
        f"dealt at random {edge['random']:.2f}."
    )
    for name in ("distilled", "undistilled"):
        each = block["naming"][name]
        by_seed = ", ".join(f"{value:.2f}" for value in block["maps"][name]["by_seed"]["tme_accuracy"])
        lines.append(
            f"- {NAMES[name].strip('*')}: accuracy {by_seed} by seed. Of {each['maps']} maps, {each['right']} "
            f"have the better of the two namings and {each['wrong']} the worse; in {each['single']} all tiles are one cluster."
        )
    return lines


def draw_picture(path: Path, cohort: Path, truth: pd.DataFrame, tiles: pd.DataFrame, slides: list[str]) -> None:
    """Write one row per slide: the slide, its true regions by tile, and the predicted clusters, all at 20x.

    Args:
        path: The PNG file.
        cohort: Folder of the cohort.
        truth: Result of `prototype_references.tiles_of_store`.
        tiles: Rows of `tiles.csv`.
        slides: Ids of the slides.
    """
    store, rows = FeatureStore(cohort / "features.zarr"), []
    for slide_id in slides:
        pixels, mpp = store.thumbnail(slide_id), store.slide_attributes(slide_id)["thumbnail_mpp"]
        of_slide = [each[(each["slide_id"] == slide_id) & (each["magnification"] == 20)] for each in (truth, tiles)]
        groups = [
            np.where(of_slide[0]["region"] == TUMOR, 0, 1),
            of_slide[1]["prototype"].map({TUMOR: 0, TME: 1}).fillna(-1).astype(int).to_numpy(),
        ]
        maps = [
            overlay_groups(pixels, mpp, each[["x_um", "y_um"]].to_numpy(), group, tile_um(20, DEFAULT_TILE_PX), _GROUPS)
            for each, group in zip(of_slide, groups, strict=True)
        ]
        rows.append([Image.fromarray(pixels[..., :3]), *maps])
    side, title = _PANEL + _GAP, 24
    heights = [max(round(panel.height * _PANEL / panel.width) for panel in row) for row in rows]
    picture = Image.new("RGB", (3 * side + _GAP, title + sum(heights) + _GAP * len(rows)), "white")
    draw, top = ImageDraw.Draw(picture), title
    for column, text in enumerate(("slide", "true regions of the tiles", "clusters of the distilled student")):
        draw.text((_GAP + column * side + _PANEL / 2, 6), text, fill=(40, 40, 40), anchor="ma", font=_font())
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            size = (_PANEL, round(panel.height * _PANEL / panel.width))
            picture.paste(panel.resize(size, Image.Resampling.LANCZOS), (_GAP + column * side, top))
        top += height + _GAP
    picture.quantize(256).save(path, optimize=True)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)

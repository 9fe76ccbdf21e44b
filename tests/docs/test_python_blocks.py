"""The Python of every page is executed from top to bottom, in one namespace that holds what the page says exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from batches import GENES, make_bag, make_batch
from doc_blocks import blocks_of, pages
from documented_files import write_tiles

pytestmark = pytest.mark.slow

PYTHON = [page for page in pages() if blocks_of(page, "python")]
CELLS = np.array([(x, y) for x in range(4) for y in range(3)])


def readme(root: Path) -> dict:
    """Genes of both subspaces, and a batch."""
    batch = make_batch()
    batch.bags.update({m: make_bag(bag.mask.sum(1).tolist(), dim=1024) for m, bag in batch.bags.items()})
    return {"tumor_genes": GENES["tumor"], "tme_genes": GENES["tme"], "batch": batch}


def export(root: Path) -> dict:
    """A model in ONNX; the page reads no more of it than the names of its outputs."""
    from onnx import TensorProto, helper, save

    (root / "export").mkdir()
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("logits", "risk")]
    graph = helper.make_graph([helper.make_node("Neg", ["logits"], ["risk"])], "model", value[:1], value[1:])
    save(helper.make_model(graph), root / "export" / "model.onnx")
    return {}


def one_magnification(root: Path) -> dict:
    features = np.ones((len(CELLS), 1024), np.float32)
    return {"my_slides": [("S1", features, CELLS * 448, 0.25)]}


def two_magnifications(root: Path) -> dict:
    coarse = np.array([(x, y) for x in range(2) for y in range(2)])
    parent = [int(np.flatnonzero((coarse == cell // 2).all(axis=1))[0]) for cell in CELLS]
    ones = np.ones((len(CELLS), 1024), np.float32)
    return {"my_slides": [("S1", ones[:4], coarse * 224.0 + 112, ones, CELLS * 112.0 + 56, parent)]}


def tiles(root: Path) -> dict:
    write_tiles(root)
    return {}


STATE = {
    "README.md": readme,
    "docs/export.md": export,
    "docs/extending.md": lambda root: {},
    "docs/extraction.md": two_magnifications,
    "docs/reports.md": tiles,
    "docs/your_cohort.md": one_magnification,
}
"""{page: function that makes what the page says exists, in the working directory or as names}"""


@pytest.mark.parametrize("page", PYTHON)
def test_python_of_the_page_runs(page, work_in, project):
    torch.manual_seed(0)
    namespace = {"__name__": "page", **STATE[page](work_in(project))}
    for block in blocks_of(page, "python"):
        code = compile("\n" * block.line + block.text, page, "exec")
        exec(code, namespace)
    if page == "docs/reports.md":
        assert namespace["table"]["tumor_dice"].max() == 1  # tiles and regions were made to agree
        assert set(namespace["regions"]["slide_id"]) == set(namespace["tiles"]["slide_id"])

"""The notebooks run headless from the first cell to the last, and what they show is there when they are opened."""

import html
import json
import re

import nbformat
import pytest
from nbclient import NotebookClient


def outputs_of(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def text_of(value):
    """Text in a notebook file is a list of lines; in memory it is one string."""
    return "".join(value)


def printed(outputs):
    return "".join(text_of(output.get("text", "")) for output in outputs)


def table(outputs, column):
    """{row: {column: text}} of the one table that has the column."""
    pages = [text_of(output["data"]["text/html"]) for output in outputs if "text/html" in output.get("data", {})]
    (page,) = [page for page in pages if f"<th>{column}</th>" in page]
    header, *rows = [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    ]
    named = [dict(zip(header[1:], cells, strict=True)) | {"": name} for name, *cells in rows]
    return {row.pop(""): row for row in named if any(row[name] for name in header[1:])}


def estimate(text):
    """Value and limits of `0.71 (0.61 to 0.79)`; the limits enclose the value."""
    value, low, high = map(float, re.fullmatch(r"(-?[\d.]+) \((-?[\d.]+) to (-?[\d.]+)\)", text).groups())
    assert low <= value <= high
    return value, low, high


def check_tour(outputs):
    assert "c_index" in printed(outputs)
    for run in ("teacher", "student"):
        assert estimate(table(outputs, "teacher")["c_index"][run])[0] > 0.5


def check_inside(outputs):
    for row in table(outputs, "deep share").values():
        assert estimate(row["concordance"])[0] > 0.5
        assert 0 <= float(row["deep share"]) <= 1
    parts = table(outputs, "not divided")
    parts = {name: {column: float(value) for column, value in row.items()} for name, row in parts.items()}
    for row in parts.values():
        assert row["sum"] == pytest.approx(sum(value for column, value in row.items() if column != "sum"), abs=0.003)
    total = parts.pop("the answer")["sum"]
    assert len(parts) == 3
    assert total == pytest.approx(sum(row["sum"] for row in parts.values()), abs=0.003)
    assert any("AUC of tumor" in text_of(o["data"].get("text/plain", "")) for o in outputs if "data" in o)
    for row in table(outputs, "share of the ten largest").values():
        assert int(row["genes"]) > 1000
        assert 0 < float(row["share of the ten largest"]) < 0.5


def check_fusion(outputs):
    row = table(outputs, "own − default")["teacher"]
    low, high = map(float, row["95 % interval"].split(" to "))
    difference = float(row["own − default"])
    assert low <= difference <= high
    assert difference == pytest.approx(float(row["own"]) - float(row["default"]), abs=0.002)
    assert row["verdict"] == ("no difference" if low <= 0 <= high else "a difference")
    assert row["patients"] == "60"
    folds = table(outputs, "pooled")
    assert folds["own"] != folds["default"], "the fusion of the config is not the one that was fitted"


def check_embeddings(outputs):
    for store in ("tiles", "vectors"):
        assert f"{store}.zarr: 66 slides, all sound" in printed(outputs)
    rows = table(outputs, "vectors − tiles")
    assert set(rows) == {"teacher", "student"}
    for row in rows.values():
        vectors, tiles, difference = (estimate(row[name])[0] for name in ("vectors", "tiles", "vectors − tiles"))
        assert difference == pytest.approx(vectors - tiles, abs=0.002)
        assert tiles > 0.5


CHECKS = {
    "01_tour": (3, check_tour),
    "02_inside_a_model": (6, check_inside),
    "03_your_own_fusion": (2, check_fusion),
    "04_your_own_embeddings": (2, check_embeddings),
}
"""{notebook: number of its pictures, and what its outputs must show}"""


def check_outputs(name, outputs):
    pictures, check = CHECKS[name]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= pictures
    assert not [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"]
    check(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_runs_to_the_end_and_shows_what_it_promises(name, repository, tmp_path):
    notebook = nbformat.read(repository / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_outputs(name, outputs_of(notebook))
    assert not list(tmp_path.iterdir())  # it works in a folder of its own


def test_every_notebook_is_tested_and_linked(repository):
    notebooks = {path.stem for path in (repository / "notebooks").glob("*.ipynb")}
    assert notebooks == set(CHECKS)
    for page, folder in (("README.md", "notebooks"), ("docs/index.md", "../notebooks")):
        text = (repository / page).read_text(encoding="utf-8")
        assert [name for name in notebooks if f"({folder}/{name}.ipynb)" not in text] == []


@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_is_saved_with_its_outputs_and_without_traces_of_a_machine(name, repository):
    path = repository / "notebooks" / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    check_outputs(name, outputs_of(notebook))
    assert path.stat().st_size < 400_000
    assert [word for word in ("/tmp/", "/home/", "/Users/", "site-packages") if word in text] == []
    assert all(not cell["metadata"] for cell in notebook["cells"])  # such as the times of execution


@pytest.mark.parametrize("name", CHECKS)
def test_the_links_of_a_notebook_lead_somewhere(name, repository):
    folder = repository / "notebooks"
    cells = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join(text_of(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]+)#?([^)\s]*)\)", text):
        assert (folder / target).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (folder / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor

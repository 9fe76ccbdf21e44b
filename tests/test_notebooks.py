"""The notebooks run headless from the first cell to the last, and end in pictures."""

import json

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["01_tour"])
def test_a_notebook_runs_to_the_end_and_draws_pictures(name, repository, tmp_path):
    source = repository / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert any("c_index" in output.get("text", "") for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not list(tmp_path.iterdir())  # it works in a folder of its own


def test_every_notebook_is_tested_and_saved_with_pictures_and_without_local_paths(repository):
    notebooks = sorted((repository / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in notebooks] == ["01_tour"]
    for path in notebooks:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert any("image/png" in o.get("data", {}) for cell in content["cells"] for o in cell.get("outputs", []))
        assert path.stat().st_size < 400_000
        text = path.read_text(encoding="utf-8")
        assert "/tmp/" not in text
        assert "/home/" not in text

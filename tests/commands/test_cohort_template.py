"""`dmml cohort template` writes tables and configs that run as they are."""

import pytest

from dmml.__main__ import main
from dmml.simulate.cohort_template import TASKS

pytestmark = pytest.mark.slow

FOLDER = 'data/our "2024" cohort\'s'
"""A folder whose name needs quotes in configs and in the shell"""


@pytest.mark.parametrize("task", TASKS)
def test_teacher_and_student_of_a_template_are_trained(task, capsys):
    assert main(["cohort", "template", "--task", task, "--out", FOLDER]) == 0
    assert "dmml doctor" in capsys.readouterr().out
    quick = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    assert main(["doctor", "--config", f"{FOLDER}/teacher.yaml"]) == 0
    for name in ("teacher", "student"):
        assert main(["fit", "--config", f"{FOLDER}/{name}.yaml", *quick]) == 0


def test_a_template_replaces_nothing_and_knows_its_tasks(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "clinical.csv").touch()
    assert main(["cohort", "template", "--task", "survival", "--out", str(tmp_path / "full")]) == 2
    assert main(["cohort", "template", "--task", "cure", "--out", str(tmp_path / "new")]) == 2
    assert "give one of survival" in capsys.readouterr().err
    assert main(["cohort", "template", "--task", "survival", "--out", str(tmp_path / "new: cohort")]) == 2
    assert "': ' in a path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]

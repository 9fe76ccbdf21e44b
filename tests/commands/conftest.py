"""A small simulated cohort of token features, and a teacher and a student that were fitted on it once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dmml.__main__ import main


@dataclass
class Journey:
    """Where the cohorts and the runs of the journey are."""

    root: Path

    def config(self, name: str, kind: str | None = None, cohort: str = "development", outcome=None, **more) -> Path:
        """Write a config; `more` has sections that are laid over the default ones."""
        folder = self.root / cohort
        content = {
            "data": {
                "class_path": "MultimodalDataModule",
                "init_args": {
                    "name": cohort,
                    "clinical": str(folder / "clinical.csv"),
                    "outcome": outcome or {"time": "os_days", "event": "os_event", "unit": "days"},
                    "expression": str(folder / "expression.parquet"),
                    "features": str(folder / "features.zarr"),
                },
            }
        }
        if kind:
            content["model"] = {"class_path": kind, "init_args": {"width": 16, "task": {"class_path": "Survival"}}}
            content["trainer"] = {
                "default_root_dir": str(self.root / "runs" / name),
                "max_epochs": 1,
                "enable_progress_bar": False,
                "callbacks": [{"class_path": "GradientCoordination"}],
            }
        for section, values in more.items():
            target = content[section]["init_args"] if section in ("model", "data") else content[section]
            target.update(values)
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return self.root / "runs" / name

    def best(self, name: str) -> str:
        """Best checkpoint of a run."""
        return str(self.run(name) / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Journey:
    """30 development and 20 held-out patients."""
    root = tmp_path_factory.mktemp("journey")
    assert main(["simulate", str(root), "--features-only", "--patients", "30", "--held-out", "20", "--dim", "16"]) == 0
    return Journey(root)


@pytest.fixture(scope="session")
def journey(cohorts) -> Journey:
    """The cohorts, a teacher and its student."""
    teacher = cohorts.config("teacher", "SubspaceTeacher")
    assert main(["fit", "--config", str(teacher)]) == 0
    student = cohorts.config("student", "SubspaceStudent", model={"teacher": cohorts.best("teacher")})
    assert main(["fit", "--config", str(student)]) == 0
    return cohorts


@pytest.fixture(scope="session")
def folds(cohorts) -> Journey:
    """The cohorts, and a teacher of slides alone that was fitted without fold 1 of three: the run `fold1`."""
    slides = {"split": {"folds": 3}, "expression": None}
    config = cohorts.config("fold1", "SubspaceTeacher", data=slides | {"fold": 1}, trainer={"callbacks": []})
    assert main(["fit", "--config", str(config)]) == 0
    cohorts.config("three_folds", data=slides)
    cohorts.config("whole_cohort", data={"expression": None})
    return cohorts


class Killed(BaseException):
    """Ends a fit as a crash would; nothing in dmml catches it."""


@pytest.fixture
def kill_fit(monkeypatch):
    """Runs `dmml fit` with a config and kills it within its eighth training step."""
    from dmml.training.subspace_module import SubspaceModule

    def run(config: str) -> None:
        step, steps = SubspaceModule.training_step, []

        def training_step(self, *args):
            steps.append(1)
            if len(steps) == 8:
                raise Killed
            return step(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(SubspaceModule, "training_step", training_step)
            with pytest.raises(Killed):
                main(["fit", "--config", config])

    return run

"""A command of the Lightning CLI after its check: its arguments and its whole configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.commands.config.reading import init_args, option_values
from dmml.experiment.tested_checkpoint import TestedCheckpoint

if TYPE_CHECKING:
    from dmml.cohort.cohort import Cohort

ALLOW = "--allow-training-patients"


@dataclass
class CheckedCommand:
    """`fit`, `validate`, `test` or `predict` with its options."""

    argv: list[str]
    """arguments for the Lightning CLI, without dmml's own options"""
    config: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    resume: bool = False
    allow_training_patients: bool = False
    """whether patients that the model was trained on may be tested"""
    digest: str = ""
    """hash of the configuration; an unfinished run is resumed only if it is the same"""
    typed: list[str] = field(default_factory=list)
    """`argv` before lists of cohorts were converted (see `convert_cohort_lists`)"""
    cohort: Cohort | None = None
    """the cohort as the check read it, so that it need not be read twice; None for a data module of a user's own"""

    @property
    def verb(self) -> str:
        """`fit`, `validate`, `test` or `predict`."""
        return self.argv[0]

    @property
    def wants_help(self) -> bool:
        """Whether the CLI only prints help or the config."""
        return any(word in ("-h", "--help") or word.startswith(("--print_config", "--help")) for word in self.argv)

    @property
    def data(self) -> dict[str, Any]:
        """Arguments of the data section."""
        return init_args(self.config.get("data"))

    @property
    def model(self) -> dict[str, Any]:
        """Arguments of the model section."""
        return init_args(self.config.get("model"))

    @property
    def trainer(self) -> dict[str, Any]:
        """The trainer section."""
        trainer = self.config.get("trainer")
        return trainer if isinstance(trainer, dict) else {}

    @property
    def run_folder(self) -> Path:
        """Folder that a fit writes to: `runs/<name of the cohort>` unless the trainer section names another."""
        return Path(self.trainer.get("default_root_dir") or Path("runs") / str(self.data.get("name") or "run"))

    @cached_property
    def checkpoint(self) -> TestedCheckpoint:
        """The checkpoint to run. Only a folder typed on the command line moves its results."""
        typed = option_values(self.argv, "--trainer.default_root_dir")
        root = Path(typed[-1]) if typed and typed[-1] else None
        return TestedCheckpoint(Path(str(self.config["ckpt_path"])), root, self.overwrite)

    @property
    def fold_source(self) -> str:
        """Why this fold is tested, as a clause of a message; empty if it was typed on the command line."""
        if option_values(self.argv, "--data.fold", "--data.init_args.fold"):
            return ""
        return ", as the config says" if "fold" in self.data else ", since no --data.fold was typed"

    @property
    def command(self) -> str:
        """The command as it was typed."""
        allowed = [ALLOW] if self.allow_training_patients else []
        return " ".join(["dmml", *(self.typed or self.argv), *allowed])

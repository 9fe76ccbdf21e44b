"""Two processes are one: the same weights, the same validation figures, everybody once."""

import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def ends(cohort, tmp_path_factory):
    """(case, processes, rank) → what that process ended with."""
    out = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("two_processes.py")
    for world in ("2", "1"):  # each anew: what this process did before must not stand between a seed and first weights
        argv = [sys.executable, str(script), world, str(cohort), str(out)]
        run = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
    return lambda case, world, rank=0: torch.load(out / f"{case}_{world}_{rank}.pt", weights_only=True)


@pytest.mark.parametrize("case", ["shared", "accumulated"])
def test_weights_after_three_steps(ends, case):
    """With coordination, accumulation, and patients without RNA."""
    one, first, second = ends(case, 1), ends(case, 2), ends(case, 2, 1)
    assert all(torch.equal(a, b) for a, b in zip(first["weights"], second["weights"], strict=True))
    gap = max((a - b).abs().max().item() for a, b in zip(one["weights"], first["weights"], strict=True))
    assert gap <= 1e-6
    learned = [set(chain.from_iterable(end["learned"])) for end in (one, first, second)]
    assert learned[1] | learned[2] == learned[0]
    assert set(one["known"]) == {True, False}, "patients with and without RNA"


def test_validation_figures_are_the_same_to_the_last_bit(ends):
    one, first, second = ends("validated", 1), ends("validated", 2), ends("validated", 2, 1)
    assert one["figures"] == first["figures"] == second["figures"]
    assert {"val/loss", "val/c_index"} <= set(one["figures"])
    assert len(first["validated"]) == 4
    assert len(second["validated"]) == 3
    everyone = [patient for end in (first, second) for batch in end["validated"] for patient in batch]
    assert len(everyone) == len(set(everyone)) == 20
    assert set(everyone) == set(chain.from_iterable(one["validated"]))

"""The processes of a simulation: their number changes nothing that they write, and an error stops the rest."""

import pytest

from dmml.simulate import simulation, workers
from dmml.simulate.slides.slide_file import write_slides
from dmml.simulate.truth import draw_patients
from dmml.simulate.workers import Workers


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_several_processes_write_the_same_bytes_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "WORTH_A_POOL", 2)
    patients = draw_patients("development", 2, 0)
    for processes in (1, 2):
        with Workers(processes) as of_simulation:
            folder = tmp_path / str(processes)
            simulation._write_star_counts(folder, patients, of_simulation)
            write_slides(folder, patients, 0.9, of_simulation)
            assert (of_simulation._pool is None) == (processes == 1)
    assert len(list((tmp_path / "1").rglob("*.tif"))) >= 2
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_and_the_remaining_jobs_are_dropped(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    patient = draw_patients("development", 1, 0)[0]
    jobs = [(tmp_path / "file" / "a.tsv", patient), *[(tmp_path / f"{k}.tsv", patient) for k in range(60)]]
    with pytest.raises(OSError, match="file"), Workers(2) as of_simulation:
        of_simulation.run(simulation._write_star_count, jobs, "RNA", "patient")
    assert len(list(tmp_path.glob("*.tsv"))) < 50

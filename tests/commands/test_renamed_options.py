"""Old names of options are refused with the new name, on the command line and in Python."""

import logging

import pytest

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.progress_bars import is_quiet
from dmml.slides.extraction.extract import extract


@pytest.mark.parametrize(
    "old", [["--least-tissue", "0.5"], ["--least-tissue=0.5"], ["--least-tissue"], ["--least", "1"]]
)
def test_the_old_name_of_min_tissue_is_refused_with_the_new_one(capsys, old):
    assert main(["extract", "slides", "--out", "f.zarr", *old]) == 2
    error = capsys.readouterr().err
    assert "--least-tissue" in error or "--least" in error
    assert "this option is now called --min-tissue" in error
    assert error.count("\n") == 1


def test_the_old_name_of_min_tissue_is_refused_in_python(tmp_path):
    with pytest.raises(InputError, match="least_tissue: this option is now called min_tissue"):
        extract([tmp_path], "f.zarr", least_tissue=0.5)


def test_the_help_does_not_list_the_old_name_of_min_tissue(capsys):
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    page = capsys.readouterr().out
    assert "--min-tissue" in page
    assert "least" not in page


def test_progress_bars_are_hidden_only_by_quiet():
    logger = logging.getLogger("dmml")
    before = logger.level
    try:
        for level, quiet in ((logging.NOTSET, False), (logging.INFO, False), (logging.WARNING, True)):
            logger.setLevel(level)
            assert is_quiet() == quiet
    finally:
        logger.setLevel(before)

"""`dmml doctor` without a config examines the installation, and says what is missing."""

import sys

from dmml.__main__ import main


def test_a_complete_installation_works(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "opens slides" in out
    assert "efficientnet" in out
    assert "extras      ok      installed: " in out
    assert out.rstrip().endswith("name a config with --config to check its data, too")


def test_a_missing_binary_of_openslide_blocks(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert main(["doctor"]) == 2
    assert "pip install openslide-python openslide-bin" in capsys.readouterr().err


def test_a_cache_that_others_can_write_to_is_reported(capsys, monkeypatch, tmp_path):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("DMML_ENCODER_CACHE", str(tmp_path))
    assert main(["doctor"]) == 0
    assert "is open to other users" in capsys.readouterr().out

"""`dmml fit` on an unfinished run says how to continue, and does so when asked."""

import json

import pytest
import torch

from dmml.__main__ import main

pytestmark = pytest.mark.slow


def test_a_fit_on_an_unfinished_run_says_how_to_continue_it(cohorts, capsys, kill_fit):
    trainer = {"max_epochs": 3}
    config = str(cohorts.config("whole", "SubspaceTeacher", trainer=trainer))
    assert main(["fit", "--config", config]) == 0
    config = str(cohorts.config("cut", "SubspaceTeacher", trainer=trainer))
    kill_fit(config)
    capsys.readouterr()
    assert main(["fit", "--config", config]) == 2
    assert "--resume to continue it, or with --overwrite to start again" in capsys.readouterr().err
    assert main(["fit", "--config", config, "--model.lr", "0.1", "--resume"]) == 2
    assert "another configuration" in capsys.readouterr().err
    assert main(["fit", "--config", config, "--resume"]) == 0
    assert "continues from last.ckpt" in capsys.readouterr().out
    assert json.loads((cohorts.run("cut") / "provenance.json").read_text())["resumed"]
    whole, cut = (torch.load(cohorts.best(name), weights_only=True)["state_dict"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (cohorts.run("whole") / "metrics.csv").read_bytes() == (cohorts.run("cut") / "metrics.csv").read_bytes()
    assert main(["fit", "--config", config, "--resume"]) == 2
    assert "finished run" in capsys.readouterr().err

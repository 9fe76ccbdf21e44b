"""A model is loaded, and a slide predicted, without the libraries of the training."""

import json
import subprocess
import sys

import pytest

TRAINING = ("lightning", "torchmetrics", "jsonargparse", "scipy.optimize", "scipy.stats", "lifelines", "zarr")
SCRIPT = """
import json, sys
from dmml.__main__ import main
from dmml.experiment.load_model import load_model

heavy, checkpoints, argv = map(json.loads, sys.argv[1:])
classes = [type(load_model(path).module).__name__ for path in checkpoints]
loaded = [name for name in heavy if name in sys.modules]
code = main(argv)
print(json.dumps([classes, loaded, code, [name for name in heavy if name in sys.modules]]))
"""


@pytest.mark.slow
def test_a_slide_is_predicted_without_lightning_and_its_kin(models, tmp_path):
    packages = [*TRAINING, "torch._dynamo", "pandas", "timm", "torchvision", "matplotlib", "shapely", "tifffile"]
    checkpoints = [models.best(name) for name in ("teacher", "student", "grade")]
    argv = ["predict-slide", models.plain, "--mpp", "0.5", "--ckpt_path", checkpoints[1], "--out", str(tmp_path / "o")]
    words = [json.dumps(each) for each in (packages, checkpoints, argv)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    classes, to_load, code, to_predict = json.loads(done.stdout.splitlines()[-1])
    assert classes == ["TeacherNetwork", "StudentNetwork", "StudentNetwork"]
    assert to_load == []
    assert code == 0
    assert not set(to_predict) & {
        "lightning",
        "torchmetrics",
        "jsonargparse",
        "lifelines",
        "zarr",
        "shapely",
        "tifffile",
    }

"""An encoder of the user's own is a class of networks that `--encoder module:Class` names."""

import sys
from types import SimpleNamespace

import pytest
import torch

from dmml.errors import InputError
from dmml.experiment.load_model import CheckpointModel, load_encoder_of
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.user_encoder import is_user_encoder
from dmml.slides.extraction.extract import extract
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow

MODULE = """
import torch


class Projection(torch.nn.Module):
    preprocessing = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "size": 8}

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 4, bias=False)
        torch.nn.init.eye_(self.layer.weight)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))


class Unfinished(torch.nn.Module):
    preprocessing = {"mean": (0.0, 0.0, 0.0)}


class NeedsArguments(torch.nn.Module):
    def __init__(self, width):
        super().__init__()


class Nothing:
    pass
"""


@pytest.fixture
def my_folder(tmp_path, monkeypatch):
    """A user's folder with a module of encoders; it is the working directory."""
    (tmp_path / "my_encoders.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "my_encoders", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def model_of(path, encoder):
    """What `load_encoder_of` reads of a model with this encoder."""
    return CheckpointModel(SimpleNamespace(fitted={"encoder": encoder}), path, {})


def test_the_class_makes_a_store_that_is_continued(my_folder, make_slide):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", "my_encoders:Projection", readers=0)
    make_slide("in/b.tif")
    result = extract(["in"], "f.zarr", "my_encoders:Projection", readers=0)
    store = FeatureStore("f.zarr")
    assert result.skipped == ["a"]
    assert store.names() == ["a", "b"]
    assert store.attributes["encoder"]["name"] == "my_encoders:Projection"
    features = store.read("a", 20).features
    assert features.shape[1] == 4
    assert (features[:, :3] > 0.4).all()  # mean colours of pink tissue
    assert (features[:, 3] == 0).all()


def test_weights_may_come_from_a_file(my_folder):
    torch.save({"layer.weight": torch.full((4, 3), 2.0)}, "w.pt")
    from_file = load_encoder("my_encoders:Projection", "w.pt", device="cpu")
    built_in = load_encoder("my_encoders:Projection", device="cpu")
    assert from_file.weights != built_in.weights
    assert from_file.model.layer.weight.tolist() == [[2.0] * 3] * 4


def test_predict_slide_loads_the_class_unless_it_came_with_the_checkpoint(my_folder):
    identity = load_encoder("my_encoders:Projection", device="cpu").identity
    model = model_of(my_folder / "runs" / "best.ckpt", identity)
    assert load_encoder_of(model).identity == identity
    received = my_folder / "received"
    received.mkdir()
    (received / "their_encoder.py").write_text("raise SystemExit('this code must not run')")
    foreign = identity | {"name": "received.their_encoder:Projection"}
    with pytest.raises(InputError, match="whose code lies in the same folder"):
        load_encoder_of(model_of(received / "best.ckpt", foreign))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_encoders:Absent", "my_encoders has no class Absent"),
        ("no_encoders:Projection", "there is no module no_encoders; put no_encoders.py into the working directory"),
        ("my_encoders:Nothing", "is not derived from torch.nn.Module"),
        ("my_encoders:Unfinished", "its attribute `preprocessing` must name mean, std, size"),
        ("my_encoders:NeedsArguments", "cannot be built .*; correct the class, which is called without arguments"),
        ("my_encoders.Projection", "or module:Class of your own"),
    ],
)
def test_a_class_that_is_no_encoder_is_refused_in_one_line(my_folder, name, message):
    with pytest.raises(InputError, match=message) as error:
        load_encoder(name, device="cpu")
    assert "\n" not in str(error.value)


def test_no_graph_is_made_of_it(my_folder):
    with pytest.raises(InputError, match="an encoder of your own runs on torch"):
        load_encoder("my_encoders:Projection", backend="onnxruntime")


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "hf-hub:owner/model", "local-dir:/a/b", "uni2-h"])
def test_names_of_timm_and_hubs_are_no_classes(name):
    assert not is_user_encoder(name)

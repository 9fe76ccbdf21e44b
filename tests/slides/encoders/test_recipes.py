"""Encoders by short name, in other precisions, and when memory does not suffice."""

import numpy as np
import pytest
import torch

from dmml.errors import InputError
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.recipes import (
    RECIPES,
    Recipe,
    check_encoder_name,
    pretraining_warning,
    recipe_for,
    token_pool,
)
from dmml.slides.encoders.torch_encoder import TorchEncoder

pytestmark = pytest.mark.slow

PARAMETERS = {
    "uni": (303.35, 1024), "uni2-h": (681.39, 1536), "virchow": (631.23, 2560), "virchow2": (631.24, 2560),
    "gigapath": (1134.95, 1536), "h-optimus-0": (1134.77, 1536), "h-optimus-1": (1134.77, 1536),
    "phikon": (85.80, 768), "lunit-vits8": (21.67, 384), "kaiko-vitb8": (85.81, 768),
}  # fmt: skip
"""Millions of numbers in the published weights, and features"""


@pytest.mark.parametrize("name", PARAMETERS)
def test_pathology_models_have_the_published_shape(name):
    """Built without memory or weights: the number of parameters and the width of the output."""
    with torch.device("meta"), torch.inference_mode():
        model, preprocessing = RECIPES[name].build(pretrained=False)
        features = model(torch.zeros(1, 3, preprocessing["size"], preprocessing["size"], device="meta"))
    millions, width = PARAMETERS[name]
    assert sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert features.shape == (1, width)
    assert len(preprocessing["mean"]) == len(preprocessing["std"]) == 3


def test_tokens_are_pooled_and_tensors_keep_their_names():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.arange(12.0).view(1, 6, 2))

        def forward(self, x):
            return self.weight.expand(len(x), -1, -1)

    both = token_pool(Tokens(), "cls+mean", 3)
    assert list(both.state_dict()) == ["weight"]
    # Class token (0, 1), beside the mean of the tokens after three of prefix: (6, 7), (8, 9), (10, 11).
    assert both(torch.zeros(2, 3, 4, 4)).tolist() == [[0.0, 1.0, 8.0, 9.0]] * 2
    assert token_pool(Tokens(), "cls", 1)(torch.zeros(1)).tolist() == [[0.0, 1.0]]


def test_the_paper_s_resnet_is_cut_after_its_third_stage(tmp_path):
    """Against torchvision's own network, stage by stage, from a file of the whole network's weights."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    whole = resnet50(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "resnet50.pth")
    encoder = load_encoder("resnet50", tmp_path / "resnet50.pth", device="cpu", backend="torch")
    tiles = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), np.uint8)
    mean, std = (torch.tensor(encoder.preprocessing[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        x = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - mean) / std
        for part in (whole.conv1, whole.bn1, whole.relu, whole.maxpool, whole.layer1, whole.layer2, whole.layer3):
            x = part(x)
    np.testing.assert_allclose(encoder(tiles), x.mean(dim=(2, 3)).numpy(), rtol=2e-4, atol=2e-5)
    assert encoder.dim == 1024


def test_an_encoder_pre_trained_on_the_cohort_causes_a_warning():
    slides = ["TCGA-05-4244-01Z-00-DX1.d4ff32cd", "C3L-00001-21", "mine"]
    assert "pre-trained on TCGA, and 1 of these 3 slides" in pretraining_warning("phikon", slides)
    assert "TCGA" in pretraining_warning("hf-hub:1aurent/swin_tiny_patch4_window7_224.CTransPath", slides)
    assert "TCGA" in pretraining_warning(RECIPES["kaiko-vitb8"].hub, slides)
    assert pretraining_warning("phikon", ["mine"]) == ""
    for other in ("uni2-h", "tf_efficientnet_lite0", "resnet50"):
        assert pretraining_warning(other, slides) == ""


@pytest.mark.parametrize("name", ["UNI", "uni2_h", "H-Optimus-0"])
def test_a_misspelt_short_name_is_corrected(name):
    with pytest.raises(InputError, match=f"--encoder {name}: did you mean"):
        check_encoder_name(name)
    check_encoder_name("resnet50.a1_in1k")


class Greedy(torch.nn.Module):
    """Runs out of memory for more than three tiles."""

    def forward(self, x):
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return x.mean(dim=(2, 3))


def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_fits():
    encoder = TorchEncoder("greedy", Greedy(), {"mean": [0.0] * 3, "std": [1.0] * 3, "size": 224}, device="cpu")
    encoder.batch_size = 16
    tiles = np.random.default_rng(0).integers(0, 255, (21, 224, 224, 3), np.uint8)
    np.testing.assert_allclose(encoder(tiles), tiles.mean(axis=(1, 2)) / 255, atol=1e-5)
    assert encoder.batch_size == 2


class OnGpu(TorchEncoder):
    """As on a GPU that holds so many tiles."""

    fits = 300

    def _forward(self, tiles):
        if len(tiles) > self.fits:
            raise torch.OutOfMemoryError("out of memory")
        return torch.zeros(len(tiles), 3)


@pytest.mark.parametrize(("fits", "batch"), [(300, 128), (5000, 512), (1, 1)])
def test_the_batch_is_half_of_the_largest_that_fits(monkeypatch, fits, batch):
    monkeypatch.setattr(OnGpu, "fits", fits)
    encoder = OnGpu("x", Greedy(), {"mean": [0.0] * 3, "std": [1.0] * 3, "size": 224}, device="cpu")
    assert encoder.find_batch_size() == 8 * torch.get_num_threads(), "a CPU's is known"
    encoder.device = torch.device("meta")
    assert encoder.find_batch_size() == batch
    assert encoder.batch_size == batch


def test_a_compiled_encoder_gives_the_same_features():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, 16), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    preprocessing_of_x = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64}
    plain, compiled = (TorchEncoder("x", model, preprocessing_of_x, device="cpu", compiled=c) for c in (False, True))
    plain.batch_size = compiled.batch_size = 2
    tiles = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), np.uint8)
    np.testing.assert_allclose(compiled(tiles), plain(tiles), rtol=1e-4, atol=1e-5)
    assert compiled.identity == plain.identity
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1  # it was compiled, and not passed by


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.hub.startswith("hf-hub:")])
def test_a_hub_name_is_built_by_its_recipe(name, monkeypatch):
    """Without it, e.g. Virchow2 would lack its SwiGLU, its pooling and its normalisation."""
    assert recipe_for(RECIPES[name].hub) is RECIPES[name]
    assert recipe_for(RECIPES[name].hub.replace("hf-hub:", "hf_hub:")) is RECIPES[name]
    assert recipe_for("hf-hub:somebody/else") is None
    built = []
    monkeypatch.setattr(Recipe, "build", lambda self, pretrained: built.append(self) or 1 / 0)
    with pytest.raises(InputError, match="cannot be built"):
        load_encoder(RECIPES[name].hub, device="cpu")
    assert built == [RECIPES[name]]


def test_half_precision_is_close_and_recorded(small_encoder):
    tiles = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), np.uint8)
    half = TorchEncoder("x", small_encoder.model, small_encoder.preprocessing, device="cpu", precision="bf16")
    a, b = small_encoder(tiles), half(tiles)
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()
    with pytest.raises(InputError, match="--precision 8"):
        TorchEncoder("x", small_encoder.model, small_encoder.preprocessing, device="cpu", precision="8")


def test_features_of_a_tile_do_not_depend_on_the_tiles_encoded_with_it(small_encoder):
    tiles = np.random.default_rng(0).integers(0, 255, (11, 224, 224, 3), np.uint8)
    together = small_encoder(tiles)
    np.testing.assert_array_equal(together[4:5], small_encoder(tiles[4:5]))
    np.testing.assert_array_equal(together[::-1], small_encoder(tiles[::-1]))

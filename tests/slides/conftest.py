"""Slides and an encoder for the tests of the slide packages."""

import pytest
from drawn_slides import paint_tissue, write_slide


@pytest.fixture
def paint():
    return paint_tissue


@pytest.fixture
def make_slide(tmp_path):
    """Write a slide of 896 × 672 µm with a box of tissue of 4 × 3 tiles of 20x, at (112, 112) µm."""

    def make(name, mpp=0.5, boxes=((224, 224, 896, 672),), size=(1792, 1344), **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_slide(path, paint_tissue(*size, boxes), mpp, **options)

    return make


@pytest.fixture(scope="session")
def small_encoder():
    """A real but tiny convolutional network of timm's, with random weights; quick enough for many slides."""
    import timm
    import torch

    from dmml.slides.encoders.torch_encoder import TorchEncoder

    torch.manual_seed(1)
    model = timm.create_model("test_efficientnet", num_classes=0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    model.train()(torch.randn(8, 3, 96, 96))  # statistics of its own, without which the features vanish
    config = model.pretrained_cfg
    preprocessing = {"mean": list(config["mean"]), "std": list(config["std"]), "size": 96}
    return TorchEncoder("test_efficientnet", model, preprocessing, device="cpu")


@pytest.fixture(scope="session")
def lite0():
    from dmml.slides.encoders.build import load_encoder

    return load_encoder(device="cpu", backend="torch")


@pytest.fixture
def break_tile():
    """Overwrite one compressed tile of the finest level with zeros."""

    def destroy(path, index):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            offset, size = tiff.pages[0].dataoffsets[index], tiff.pages[0].databytecounts[index]
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(bytes(size))

    return destroy

"""Slides and an encoder for the tests of this room."""

import numpy as np
import pytest


def paint_tissue(width, height, boxes, seed=0):
    """Glass with noise, and boxes (x, y, w, h) of eosin and haematoxylin colours."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(243, 1.5, (height, width, 3))
    for x, y, w, h in boxes:
        stain = np.array([214.0, 140.0, 180.0])
        picture[y : y + h, x : x + w] = stain + rng.normal(0, 6, (h, w, 1)) + rng.normal(0, 2, (h, w, 3))
    return picture.clip(0, 255).astype(np.uint8)


def write_slide(path, picture, mpp=0.5, levels=(1, 4), tile=256):
    """A tiled JPEG TIFF pyramid that OpenSlide opens as generic-tiff."""
    import tifffile
    from PIL import Image

    resolution = None if mpp is None else (1e4 / mpp, 1e4 / mpp)
    with tifffile.TiffWriter(path) as tiff:
        for factor in levels:
            size = (picture.shape[1] // factor, picture.shape[0] // factor)
            pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            scaled = None if resolution is None else tuple(r / factor for r in resolution)
            tiff.write(
                pixels,
                tile=(tile, tile),
                compression="jpeg",
                compressionargs={"level": 92},
                photometric="rgb",
                resolution=scaled,
                resolutionunit=None if mpp is None else "CENTIMETER",
                subfiletype=0 if factor == 1 else 1,
                metadata=None,
            )
    return path


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

    from dmml.slides.encoders import Encoder

    torch.manual_seed(1)
    model = timm.create_model("test_efficientnet", num_classes=0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    model.train()(torch.randn(8, 3, 96, 96))  # statistics of its own, without which the features vanish
    config = model.pretrained_cfg
    preprocessing = {"mean": list(config["mean"]), "std": list(config["std"]), "size": 96}
    return Encoder("test_efficientnet", model, preprocessing, device="cpu")


@pytest.fixture(scope="session")
def lite0():
    from dmml.slides.encoders import load_encoder

    return load_encoder(device="cpu")


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

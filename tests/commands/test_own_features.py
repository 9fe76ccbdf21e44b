"""The code in the docs that writes a store from arrays is run as printed, and a model is trained on the store."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from doc_blocks import block_with

from dmml.__main__ import main
from dmml.store import FeatureStore

CELLS = np.array([(x, y) for x in range(4) for y in range(3)])
PATIENTS = [f"P{i:02d}" for i in range(16)]


def snippet(page):
    """The block of Python in a page that makes a store."""
    block = block_with(page, "FeatureStore.create")
    assert len([line for line in block.splitlines() if line.strip()]) <= 8
    return block


def draw(rng):
    return rng.normal(size=(len(CELLS), 1024)).astype(np.float32)


def config(name, patients, features, **more):
    """A cohort with one slide per patient and without RNA."""
    pd.DataFrame({"patient_id": patients, "days": np.arange(len(patients)) * 90 + 60, "died": [1, 0] * (len(patients) // 2)}).to_csv(
        f"{name}.csv", index=False
    )  # fmt: skip
    data = {"name": name, "clinical": f"{name}.csv", "outcome": {"time": "days", "event": "died"}, "features": features}
    content = {"data": {"class_path": "MultimodalDataModule", "init_args": {**data, "magnifications": [20]}}, **more}
    with open(f"{name}.yaml", "w") as file:
        json.dump(content, file)
    return f"{name}.yaml"


@pytest.mark.slow
def test_a_model_is_trained_on_the_store_of_the_example(tmp_path, capsys):
    """The import names the same encoder with unknown weights, so the checkpoint accepts both stores."""
    rng = np.random.default_rng(0)
    my_slides = [(f"{patient}-1", draw(rng), CELLS * 448 + 30, 0.25) for patient in PATIENTS]
    exec(compile(snippet("docs/your_cohort.md"), "your_cohort.md", "exec"), {"my_slides": my_slides})
    store = FeatureStore("features.zarr")
    np.testing.assert_allclose(store.read("P00-1", 20).position, (CELLS * 448 + 30 + 224) * 0.25)
    np.testing.assert_array_equal(store.read("P00-1", 20).features, my_slides[0][1].astype(np.float16))
    assert main(["features", "verify", "features.zarr"]) == 0
    model = {
        "class_path": "SubspaceStudent",
        "init_args": {"width": 16, "magnifications": [20], "task": {"class_path": "Survival"}},
    }
    trainer = {"default_root_dir": "runs/own", "max_epochs": 1, "enable_progress_bar": False}
    fit = config("own", PATIENTS, "features.zarr", model=model, trainer=trainer)
    main(["doctor", "-c", fit])
    assert "features.zarr: 16 slides at [20], uni, 1024 features per tile" in " ".join(capsys.readouterr().out.split())
    assert main(["fit", "--config", fit]) == 0

    (tmp_path / "job" / "h5").mkdir(parents=True)
    others = [f"Q{i}" for i in range(8)]
    for patient in others:
        with h5py.File(tmp_path / "job" / "h5" / f"{patient}-1.h5", "w") as file:
            file["features"], file["coords"] = draw(rng), CELLS * 448
    options = ["--encoder", "uni", "--mpp", "0.25", "--level0-px", "448", "--patch-px", "224", "--out", "imported.zarr"]
    assert main(["features", "import", "job/h5", *options]) == 0
    test = config("imported", others, "imported.zarr")
    assert main(["test", "--config", test, "--ckpt_path", "runs/own/checkpoints/best.ckpt"]) == 0
    assert FeatureStore("imported.zarr").attributes["encoder"] == store.attributes["encoder"]


def test_the_code_in_the_documentation_makes_a_nested_store(capsys):
    rng = np.random.default_rng(0)
    coarse = np.array([(x, y) for x in range(2) for y in range(2)])
    parent = [int(np.flatnonzero((coarse == cell // 2).all(axis=1))[0]) for cell in CELLS]
    one = ("S", draw(rng)[:4], coarse * 224.0 + 112, draw(rng), CELLS * 112.0 + 56, parent)
    exec(compile(snippet("docs/extraction.md"), "extraction.md", "exec"), {"my_slides": [one]})
    assert main(["features", "verify", "features.zarr"]) == 0
    assert "1 slides, all sound" in capsys.readouterr().out
    assert FeatureStore("features.zarr").read("S", 20).parent.tolist() == parent


def test_a_model_refuses_tiles_of_another_size(tmp_path):
    from dmml.data.encoder_match import check_same_encoder
    from dmml.errors import InputError

    encoder = {"name": "uni", "dim": 4}
    store = FeatureStore.create(tmp_path / "f.zarr", encoder, {20: 0.5}, tile_px=512)
    check_same_encoder("f.zarr", store, 4, {"encoder": encoder, "tile_px": 512})
    check_same_encoder("f.zarr", store, 4, {"encoder": encoder})  # of an earlier version, which did not record it
    message = "tiles have 512 px, but the model was trained on tiles of 224 px; extract the slides with --tile-px 224"
    with pytest.raises(InputError, match=message):
        check_same_encoder("f.zarr", store, 4, {"encoder": encoder, "tile_px": 224})


@pytest.mark.parametrize("weights", [None, "0" * 64])
def test_encoders_are_compared_by_weights_only_if_both_are_known(tmp_path, weights):
    from dmml.data.encoder_match import check_same_encoder
    from dmml.errors import InputError

    store = FeatureStore.create(tmp_path / "f.zarr", {"name": "uni", "dim": 4, "weights": weights}, {20: 0.5})
    for identity in ({"name": "uni", "dim": 4, "weights": "imported", "preprocessing": {}}, {"name": "uni", "dim": 4}):
        if weights is None:
            check_same_encoder("f.zarr", store, 4, {"encoder": identity})
        else:
            with pytest.raises(InputError, match="encoder's weights"):
                check_same_encoder("f.zarr", store, 4, {"encoder": identity})

"""The quick start of those who have TRIDENT features: import, fit, a checkpoint."""

import h5py
import numpy as np
import pytest

from dmml.__main__ import main
from dmml.store import FeatureStore


@pytest.mark.slow
def test_a_model_is_fitted_to_trident_features(cohorts, tmp_path):
    """A cohort's own features through TRIDENT's form and back are the same store, and a teacher fits on it."""
    store = FeatureStore(cohorts.root / "development" / "features.zarr")
    job = tmp_path / "job"
    for magnification, level0 in ((10, 448), (20, 224)):
        folder = job / f"{magnification}x_224px_0px_overlap" / "features_net"
        folder.mkdir(parents=True)
        for slide in store.slides():
            bag = store.read(slide, magnification)
            with h5py.File(folder / f"{slide}.h5", "w") as file:
                file["features"] = bag.features.astype(np.float32)
                file["coords"] = np.round(bag.position / 0.5 - level0 / 2).astype(np.int64)
                file["coords"].attrs.update(
                    {"patch_size": 224, "patch_size_level0": level0, "target_magnification": magnification}
                )
    out = tmp_path / "features.zarr"
    assert main(["features", "import", str(job), "--out", str(out)]) == 0
    imported = FeatureStore(out)
    assert imported.slides() == store.slides()
    for slide in store.slides():
        for magnification in (10, 20):
            a, b = (s.read(slide, magnification) for s in (store, imported))
            np.testing.assert_array_equal(a.features, b.features)
            np.testing.assert_array_equal(a.position, b.position)
            np.testing.assert_array_equal(a.parent, b.parent)
    config = cohorts.config("imported", "SubspaceTeacher", data={"features": str(out)})
    assert main(["fit", "--config", str(config)]) == 0
    assert (cohorts.run("imported") / "checkpoints" / "best.ckpt").is_file()

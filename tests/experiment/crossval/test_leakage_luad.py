"""On TCGA-LUAD and a published fold: nothing that is fitted depends on the fold's test patients."""

import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from crossvals import run
from fitted_state import differences, fitted_state, record_regressions

pytestmark = pytest.mark.slow

MODELS = "teacher,rna_linear,clinical"


@pytest.fixture
def luad(shared_data):
    """The published tables, and the patients of fold 0."""
    folder = shared_data / "tcga_luad"
    fold = pd.read_csv(folder / "splits_5fold" / "splits_0.csv", dtype=str)
    return folder, list(fold["train"].dropna()), list(fold["val"].dropna())


def copied(luad, target, patients, kinds=("rna", "outcome", "covariates")):
    """The two tables with absurd values for some patients."""
    target.mkdir()
    with zipfile.ZipFile(luad / "mcat_luad_all_clean.csv.zip") as archive:
        rows = list(csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode())))
    if "rna" in kinds:
        id_column, genes = rows[0].index("case_id"), [i for i, name in enumerate(rows[0]) if name.endswith("_rnaseq")]
        for row in rows[1:]:
            if row[id_column] in patients:  # every seventh gene is missing, the others are scaled and reversed
                for i in genes:
                    row[i] = "" if i % 7 == 0 else repr(7 - 1000 * float(row[i]))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with zipfile.ZipFile(target / "rna.csv.zip", "w") as archive:
        archive.writestr("rna.csv", text.getvalue())
    table = pd.read_csv(luad / "clinical.csv", dtype=str, keep_default_na=False)
    changed = table["patient_id"].isin(patients)
    if "outcome" in kinds:
        days = pd.to_numeric(table.loc[changed, "os_days"])
        table.loc[changed, "os_days"] = [repr(8000 - day) if day == day else "" for day in days]
        table.loc[changed, "os_event"] = table.loc[changed, "os_event"].replace({"0.0": "1.0", "1.0": "0.0"})
    if "covariates" in kinds:
        table.loc[changed, "age"] = ["" if i % 3 == 0 else repr(1000.0 + i) for i in range(changed.sum())]
        table.loc[changed, "sex"], table.loc[changed, "stage"] = "other", "IX"
    table.to_csv(target / "clinical.csv", index=False)
    return target


@pytest.mark.parametrize("preset", [None, "released_code"])
def test_absurd_test_patients_of_luad_do_not_change_any_fitted_bit(luad, preset, repository, tmp_path, monkeypatch):
    luad, train, test = luad
    regressions = record_regressions(monkeypatch)

    def fitted(name, patients, kinds=("rna", "outcome", "covariates"), models=MODELS):
        regressions.clear()
        folder = copied(luad, tmp_path / f"{name}_tables", patients, kinds)
        config = yaml.safe_load((repository / "configs" / "luad_rna.yaml").read_text())
        data = config["data"]["init_args"]
        data["clinical"], data["expression"]["path"] = str(folder / "clinical.csv"), str(folder / "rna.csv.zip")
        data |= {"split": str(luad / "splits_5fold"), "gene_sets": {"preset": preset} if preset else None}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        run("--config", path, "--models", models, "--out", tmp_path / name, "--only-fold", 0)
        return fitted_state(tmp_path / name, regressions)

    base = fitted("base", [], kinds=())
    epoch = base["teacher"]["checkpoint"]["epoch"]
    assert epoch < 49  # the first of those with the best inner validation, at which the deep part may count for nothing
    penalties = [one["model"].penalty for one in base["regressions"]]
    assert len(penalties) == 2
    assert not differences(base, fitted("unseen", test))
    risks = [pd.read_csv(tmp_path / out / "fold_0/teacher/predictions.csv")["risk"] for out in ("base", "unseen")]
    assert not np.allclose(*risks)  # the test patients' own answers did change
    if preset:
        genes = base["teacher"]["checkpoint"]["hyper_parameters"]["genes"]
        assert [len(genes[s].split()) - 1 for s in ("tumor", "tme")] == [59, 361]
        return
    # The same in a few training patients is seen, kind by kind: each of these comparisons can fail.
    rna = differences(base, fitted("rna", train[:3], ("rna",)))
    for part in ("checkpoint/state_dict", "checkpoint/hyper_parameters/fitted/gene_statistics"):
        assert any(line.startswith(f"/teacher/{part}") for line in rna)
    assert any(line.startswith("/regressions/0/model") for line in rna)  # rna_linear
    assert not any(line.startswith("/regressions/1") for line in rna)  # clinical has no RNA
    for kind, changed in (("outcome", (0, 1)), ("covariates", (1,))):
        paths = differences(base, fitted(kind, train[:30], (kind,), "rna_linear,clinical"))
        affected = {i for i in (0, 1) if any(line.startswith(f"/regressions/{i}/model/weight") for line in paths)}
        assert affected == set(changed)

#!/usr/bin/env python3
"""Predicts from a feature store with an exported student. Needs only numpy, onnxruntime and zarr (3 or newer).

    python run_model.py features.zarr --out predictions.csv
    python run_model.py features.zarr SLIDE_1 SLIDE_2 --out predictions.csv
    python run_model.py features.zarr --patients patients.csv PATIENT_1 --out predictions.csv --details details

The file `model.onnx` lies next to this one. The table has one row per patient, with the columns that `dmml predict`
writes. Without `--patients`, every slide counts as a patient. For research; not a medical device.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import zarr

FORMAT, STORE_FORMAT = "dmml-student-1", "dmml-features-1"
Inputs = dict[str, np.ndarray]


class WrongInput(Exception):
    """A file, an id or an option is wrong; the message is one line that says what to do."""


class Model:
    """An exported student.

    Args:
        path: `model.onnx`.

    Attributes:
        metadata: What the file says of the model: `columns`, `magnifications`, `encoder`, `programs` and others.
        documentation: {output: what it is, with shape and unit}.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise WrongInput(f"{path}: no such file; name the exported model with --model")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        texts = self._session.get_modelmeta().custom_metadata_map
        if texts.get("format") != FORMAT:
            raise WrongInput(f"{path}: not a student that `dmml export` wrote (its format is {texts.get('format')!r})")
        self.metadata = {key: _plain(text) for key, text in texts.items()}
        self.columns: list[str] = self.metadata["columns"]
        self.magnifications = sorted(map(int, self.metadata["magnifications"]))
        self._inputs = {each.name for each in self._session.get_inputs()}
        self.outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return {output: array} of one patient."""
        needed = {name: values for name, values in inputs.items() if name in self._inputs}
        return dict(zip(self.outputs, self._session.run(None, needed), strict=True))


class Store:
    """A feature store of dmml.

    Args:
        path: Folder of the store.
    """

    def __init__(self, path: str):
        try:
            self._root = zarr.open_group(path, mode="r")
        except Exception as error:  # zarr raises exceptions of several types of its own
            raise WrongInput(
                f"{path}: no feature store ({type(error).__name__}); name one of `dmml extract`"
            ) from error
        self.path = path
        self.attributes: dict[str, Any] = dict(self._root.attrs)
        if self.attributes.get("format") != STORE_FORMAT:
            raise WrongInput(f"{path}: not a feature store of dmml; make one with `dmml extract`")

    def slides(self) -> list[str]:
        """Return the ids of all complete slides, sorted."""
        groups = self._group("slides")
        return [] if groups is None else sorted(name for name in groups.group_keys() if self.has(name))

    def has(self, slide: str) -> bool:
        """Whether a slide exists and is complete."""
        group = self._group(f"slides/{slide}")
        return group is not None and bool(group.attrs.get("complete"))

    def read(self, slide: str, magnification: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return features (N, D) and positions (N, 2) of a slide; None if it has none at the magnification."""
        group = self._group(f"slides/{slide}/{magnification}x")
        if group is None or "features" not in group:
            return None
        return np.asarray(group["features"][:], np.float32), np.asarray(group["position"][:], np.float32)

    def _group(self, name: str) -> Any:  # noqa: ANN401 - a group of zarr
        try:
            return self._root[name]
        except KeyError:
            return None


def check_encoder(model: Model, store: Store) -> None:
    """Refuse features of another encoder, of other weights, or of tiles of another size or stain than in training."""
    expected, stored = model.metadata["encoder"], store.attributes["encoder"]
    if int(stored["dim"]) != int(model.metadata["n_features"]):
        raise WrongInput(
            f"{store.path}: has {stored['dim']} features per tile, but the model reads {model.metadata['n_features']}"
        )
    for key, default in (("name", None), ("weights", "imported")):
        if expected.get(key) and stored.get(key, default) != expected[key]:
            raise WrongInput(
                f"{store.path}: the encoder's {key} is {stored.get(key, default)}, but the model was trained on {expected[key]}; "
                "extract the slides with that encoder"
            )
    tile_px = model.metadata.get("tile_px")
    if tile_px and store.attributes["tile_px"] != tile_px:
        raise WrongInput(
            f"{store.path}: its tiles have {store.attributes['tile_px']} px, but the model was trained on tiles of {tile_px} px; "
            f"extract the slides with --tile-px {tile_px}"
        )
    stains = [each.get("stain_normalization") or {} for each in (expected, stored)]
    if any(stains[0].get(key) != stains[1].get(key) for key in ("method", "target", "target_stains")):
        raise WrongInput(
            f"{store.path}: the stains of its tiles were normalised otherwise than in training; extract the slides again"
        )


def patient_inputs(model: Model, store: Store, slides: Sequence[str]) -> Inputs:
    """Read and join the slides of a patient.

    Raises:
        WrongInput: A slide is not in the store, or the patient has more tiles than the model can merge.
    """
    missing = [slide for slide in slides if not store.has(slide)]
    if missing:
        raise WrongInput(
            f"{store.path}: no slide {missing[0]!r}; it holds {len(store.slides())} slides, such as {store.slides()[:1]}"
        )
    inputs: Inputs = {"slides": np.arange(len(slides))}
    for m in model.magnifications:
        features = [np.zeros((0, model.metadata["n_features"]), np.float32)]
        position, index = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int64)]
        for i, slide in enumerate(slides):
            tiles = store.read(slide, m)
            if tiles is not None:
                features.append(tiles[0])
                position.append(tiles[1])
                index.append(np.full(len(tiles[0]), i))
        joined = (np.concatenate(parts) for parts in (features, position, index))
        inputs |= dict(zip((f"features_{m}x", f"position_{m}x", f"slide_{m}x"), joined, strict=True))
        n = len(inputs[f"slide_{m}x"])
        if n > model.metadata["max_tokens"]:
            raise WrongInput(
                f"{slides[0]}: {n:,} tiles at {m}x, but the model reads at most {model.metadata['max_tokens']:,}"
            )
    return inputs


def read_patients(path: Path) -> dict[str, list[str]]:
    """Read {patient: slides} from a CSV file with the columns `patient_id` and `slide_id`, one slide per row."""
    patients: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                patients.setdefault(row["patient_id"], []).append(row["slide_id"])
    except OSError as error:
        raise WrongInput(f"{path}: cannot be read ({error.strerror})") from error
    except KeyError as error:
        raise WrongInput(f"{path}: has no column {error}; give the columns patient_id and slide_id") from error
    return patients


def choose_patients(store: Store, table: Path | None, ids: Sequence[str]) -> dict[str, list[str]]:
    """Return {patient: slides} for the given ids; all patients of the table, or all slides of the store, without ids."""
    patients = read_patients(table) if table else {slide: [slide] for slide in ids or store.slides()}
    unknown = [each for each in ids if each not in patients]
    if unknown:
        raise WrongInput(f"{table}: no patient {unknown[0]!r}")
    selected = {each: patients[each] for each in ids} if ids else patients
    if not selected:
        raise WrongInput(f"{table or store.path}: there is nothing to predict")
    return selected


def predict(
    model: Model, store: Store, patients: Mapping[str, Sequence[str]], details: Path | None
) -> list[dict[str, Any]]:
    """Predict patient by patient; patients without any tile are left out, with a line on stderr.

    Args:
        model: The model.
        store: The store.
        patients: {patient: slides}.
        details: Folder for `<patient>.npz` with all outputs and the tiles' positions; None = none are written.
    """
    rows = []
    for patient, slides in patients.items():
        inputs = patient_inputs(model, store, slides)
        counts = {f"n_tokens_{m}x": len(inputs[f"slide_{m}x"]) for m in model.magnifications}
        if not any(counts.values()):
            sys.stderr.write(
                f"warning: {patient}: left out, because it has no tiles at any magnification of the model\n"
            )
            continue
        outputs = model(inputs)
        rows.append({"patient_id": patient, **{name: float(outputs[name]) for name in model.columns}, **counts})
        if details is not None:
            details.mkdir(parents=True, exist_ok=True)
            tiles = {name: values for name, values in inputs.items() if name.startswith(("position_", "slide_"))}
            np.savez_compressed(details / f"{patient.replace(os.sep, '_')}.npz", **outputs, **tiles)  # type: ignore[arg-type] # numpy's annotation knows no arrays by name
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV, completely or not at all; undefined values are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except ValueError:
        return text


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", help="feature store of `dmml extract` or `dmml features import`")
    parser.add_argument("ids", nargs="*", metavar="ID", help="slides, or patients of --patients (default: all)")
    parser.add_argument(
        "--patients", type=Path, metavar="CSV", help="table with patient_id and slide_id, one slide per row"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), metavar="CSV", help="default: predictions.csv"
    )
    parser.add_argument(
        "--details", type=Path, metavar="FOLDER", help="also write all outputs of each patient as <patient>.npz"
    )
    parser.add_argument(
        "--model", type=Path, default=Path(__file__).with_name("model.onnx"), help="default: next to this file"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or 2 for wrong input."""
    args = _arguments(argv)
    try:
        model, store = Model(args.model), Store(args.store)
        check_encoder(model, store)
        rows = predict(model, store, choose_patients(store, args.patients, args.ids), args.details)
        counts = [f"n_tokens_{m}x" for m in model.magnifications]
        write_table(args.out, rows, ["patient_id", *model.columns, *counts])
    except WrongInput as error:
        sys.stderr.write(f"run_model: error: {error}\n")
        return 2
    sys.stdout.write(f"{args.out}: {len(rows)} patients\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

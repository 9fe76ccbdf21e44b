"""Predict from raw slides: risk or class, how sure the model is, where each subspace looks, and predicted programs.

Each slide counts as a separate patient, unless `--one-patient` says that they belong together. For research, not for
diagnosis.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

from dmml.experiment.predict_slide.explain.levels import DEFAULT
from dmml.writable import check_writable

if TYPE_CHECKING:
    from dmml.experiment.predict_slide.options import PredictionOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "slides",
        metavar="SLIDE",
        nargs="+",
        help="slide files, and folders that are searched for slides; with --mpp, JPEG, PNG and BMP files in folders count as "
        "slides",
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        metavar="P",
        help="checkpoint of a student or a teacher, from `dmml fit`; or folder of `dmml crossval`, whose models are averaged",
    )
    parser.add_argument(
        "--crossval-model",
        metavar="NAME",
        help="which models of a cross-validation are averaged (default: its students)",
    )
    parser.add_argument("--out", required=True, metavar="D", help="folder; the answer goes to D/<slide>/")
    parser.add_argument("--mpp", type=float, help="µm per pixel, used only for slides that do not state their own")
    parser.add_argument("--weights", metavar="PATH", help="local weights of the encoder that the model was trained on")
    parser.add_argument(
        "--tissue",
        metavar="METHOD",
        help="how tissue is found: colour, or module:function of your own (default: as on the training slides)",
    )
    parser.add_argument(
        "--min-tissue",
        type=float,
        metavar="SHARE",
        help="smallest share of tissue of a tile that is read (default: as on the training slides)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SHARE",
        help="encode the 20x tiles of this share of the 10x tiles only, such as 0.25, chosen by the model from what it sees at "
        "10x (default: all tiles)",
    )
    parser.add_argument(
        "--roi",
        metavar="PATH",
        help="GeoJSON file with the regions of the slide to read, drawn in QuPath, or a folder with <slide>.geojson for each "
        "slide (default: whole slides)",
    )
    parser.add_argument(
        "--regions", action="store_true", help="merge tiles of the same class into regions for QuPath, too"
    )
    parser.add_argument(
        "--overlay",
        metavar="FORMAT",
        help="write the tiles as an image, too: ome-tiff, their colours (extra: pip install 'dmml[overlay]'), or dicom, a "
        "parametric map of a DICOM slide (extra: pip install 'dmml[dicom]')",
    )
    parser.add_argument(
        "--explain",
        metavar="LEVEL",
        default=DEFAULT,
        help="none; default: maps with a deletion test of each, and sheets of top and bottom tiles; full: also divides the "
        "deep part among tiles, with more random orders, and needs pip install 'dmml[explain]'",
    )
    parser.add_argument(
        "--slide-metadata",
        action="store_true",
        help="write the metadata of the slides' files into prediction.json, which may name the patient (default: no metadata)",
    )
    parser.add_argument("--one-patient", action="store_true", help="all slides belong to one patient")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end with exit code 2 if a slide has a warning, e.g. is unlike the training slides; all answers are written first",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing answer")


def run(args: argparse.Namespace) -> None:
    """Check the input, then predict patient by patient and print each answer."""
    from dmml.commands.config.file_checks import check_checkpoint
    from dmml.experiment.fold_models.checkpoints import named_checkpoints
    from dmml.experiment.load_model import check_reads_slides
    from dmml.experiment.predict_slide.options import PredictionOptions, check_request
    from dmml.networks.checkpoint_content import hyper_parameters_of
    from dmml.slides.discovery.find import describe_unscaled, find_slides

    options = PredictionOptions(**{field.name: getattr(args, field.name) for field in fields(PredictionOptions)})
    checkpoints = named_checkpoints(args.ckpt_path, args.crossval_model)
    for checkpoint in checkpoints:
        check_checkpoint(str(checkpoint))
        check_reads_slides(hyper_parameters_of(str(checkpoint)), checkpoint)
    cases = check_request(args.slides, args.out, options)
    check_writable(args.out, "name another folder with --out")
    if skipped := describe_unscaled(find_slides(args.slides, lambda path: args.mpp is not None).unscaled):
        print(skipped)

    from tqdm import tqdm

    from dmml.experiment.fold_models.load import load_models
    from dmml.experiment.predict_slide.predict_slide import SlidePrediction, predict_slides
    from dmml.progress_bars import hide_bar

    with tqdm(desc="tiles", unit="tile", disable=hide_bar(), leave=False) as bar:

        def show_progress(slide: str, n: int, total: int) -> None:
            if n < bar.n or bar.total != total:
                bar.reset(total)
                bar.set_description(slide[:30])
            bar.update(n - bar.n)

        def print_answer(prediction: SlidePrediction) -> None:
            bar.clear()
            print(*prediction.lines, prediction.folder / "report.html", sep="\n", flush=True)

        predict_slides(
            cases,
            load_models(checkpoints),
            args.out,
            options,
            command=_command(args, options),
            progress=show_progress,
            done=print_answer,
        )


def _command(args: argparse.Namespace, options: PredictionOptions) -> str:
    """Return the command line that repeats this prediction."""
    words = ["dmml", "predict-slide", *args.slides, "--ckpt_path", args.ckpt_path, "--out", args.out]
    for field in fields(options):
        value, option = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        if value != field.default:
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)

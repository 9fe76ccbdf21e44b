"""Export a trained student as ONNX and torch.export, with a runner, a model card and a TRIPOD+AI table.

The folder OUT gets model.onnx, model.pt2, run_model.py (which needs only numpy, onnxruntime and zarr), model_card.md,
tripod_ai.md and export.json. Both files are compared with PyTorch before anything is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("ckpt_path", metavar="CKPT", help="checkpoint of a student, from `dmml fit`")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing export")


def run(args: argparse.Namespace) -> None:
    """Check the input, export the student and print how closely the files agree with PyTorch."""
    from dmml.commands.config.file_checks import check_checkpoint
    from dmml.experiment.export.checks import check_out, check_student
    from dmml.experiment.load_model import check_reads_slides
    from dmml.networks.checkpoint_content import hyper_parameters_of

    check_checkpoint(args.ckpt_path)
    hparams = hyper_parameters_of(args.ckpt_path)
    check_reads_slides(hparams, args.ckpt_path)
    check_student(hparams, args.ckpt_path)
    check_out(args.out, args.overwrite)
    check_writable(args.out.parent, "name another OUT")

    from dmml.experiment.export.export_model import export_model

    export = export_model(args.ckpt_path, args.out, args.overwrite)
    for each in export.agreements:
        print(f"{each.case.text()}: ONNX differs by {each.onnx:.1e} at most, torch.export by {each.torch_export:.1e}")
    print(args.out)

"""What a checkpoint says is read without torch as torch reads it; nothing in the file is imported or called."""

import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from dmml.errors import InputError
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY, hyper_parameters_of, read_hyper_parameters

HPARAMS = {
    "text": "täxt",
    "long": "strings| " + " ".join(f"GENE{i}" for i in range(5000)),
    "numbers": [0, 255, 256, 70_000, -3, 2**40, 1e-9, float("inf")],
    "nothing": {"none": None, "yes": True, "no": False, "empty": [[], {}, ()]},
    "tuples": ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "task": {"class_path": "dmml.tasks.survival.Survival", "init_args": {"edges": [300.0, 700.0]}},
}
HPARAMS["again"] = HPARAMS["task"]  # the same object twice


def written(path, **changes):
    weights = OrderedDict(layer=torch.nn.Parameter(torch.ones(3)), buffer=torch.zeros((), dtype=torch.int64))
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    content = {"state_dict": weights, "optimizer_states": [optimizer], FORMAT_KEY: FORMAT, "hyper_parameters": HPARAMS}
    torch.save(content | changes, path)
    return path


def test_hyper_parameters_are_those_that_torch_reads(tmp_path):
    path = written(tmp_path / "a.ckpt")
    assert read_hyper_parameters(path) == torch.load(path, weights_only=True)["hyper_parameters"] == HPARAMS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FORMAT_KEY: FORMAT + 1}, r"a\.ckpt: this checkpoint was written by a later dmml"),
        ({"hyper_parameters": None}, r"a\.ckpt: a torch file but no checkpoint of a dmml model"),
        ({"hyper_parameters": {"_instantiator": "os.system"}}, r"its _instantiator is os\.system"),
        (
            {"hyper_parameters": {"_class_path": "dmml.nn.paper.PaperFusion"}},
            r"PaperFusion is now dmml\.nn\.released_code",
        ),
    ],
)
def test_a_checkpoint_is_refused_by_what_it_says(tmp_path, changes, message):
    path = written(tmp_path / "a.ckpt", **changes)
    for read in (read_hyper_parameters, hyper_parameters_of):
        with pytest.raises(InputError, match=message):
            read(path)


class Call:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("made",)


def test_nothing_in_the_file_is_called_and_what_a_call_would_make_is_left_to_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"part": {"hyper_parameters": {"x": 1}, "state_dict": Call()}, "all": Call()}.items():
        with zipfile.ZipFile(f"{name}.ckpt", "w") as archive:
            archive.writestr(
                "archive/data.pkl",
                pickle.dumps(content | {FORMAT_KEY: FORMAT} if name == "part" else content, protocol=2),
            )
    assert read_hyper_parameters("part.ckpt") == {"x": 1}
    assert read_hyper_parameters("all.ckpt") is None
    with pytest.raises(InputError, match="not a checkpoint that can be read safely"):
        hyper_parameters_of("all.ckpt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02}q\x00h\x05.", b"nonsense", b"\x80\x02]q\x00(K\x01u."])
def test_a_damaged_file_is_left_to_torch_which_refuses_it(tmp_path, content):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    assert read_hyper_parameters(path) is None
    path.write_bytes(path.read_bytes()[:-10])
    assert read_hyper_parameters(path) is None
    assert read_hyper_parameters(tmp_path / "gone.ckpt") is None
    with pytest.raises(InputError, match=r"a\.ckpt: not a checkpoint that can be read safely"):
        hyper_parameters_of(path)

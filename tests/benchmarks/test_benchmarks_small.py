"""Simulated slides, training steps, and tables of the benchmarks are what they are said to be."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture
def slides():
    from rare_signal import Slides

    return lambda share, strength=1000.0: Slides(share, strength, n_features=16, seed=3)


@pytest.mark.parametrize(("share", "count"), [(0.01, 4), (0.05, 20), (0.5, 200)])
def test_the_given_share_of_neighbouring_tiles_carries_the_class(slides, share, count):
    world = slides(share)
    batch = world.draw(6)
    for scale, (tile, bag) in enumerate(zip((224.0, 112.0), batch.bags.values(), strict=True)):
        for i, label in enumerate(batch.target["label"]):
            similarity = bag.features[i] @ world.prototypes[scale].T / 1000  # (N, C)
            planted = similarity[:, label] > 500
            assert planted.sum() == count
            cells = {tuple(c) for c in (bag.position[i] / tile - 0.5).round().int().tolist()}
            assert len(cells) == 400, "every cell of the grid once"
            planted_positions = bag.position[i][planted]
            # A disc of `count` cells, cut by the slide's edge to a quarter at most, is no wider than this.
            assert (planted_positions.amax(0) - planted_positions.amin(0)).max() <= tile * (
                2 * (4 * count / 3.14) ** 0.5 + 1
            )
            others = bag.features[i][~planted]
            assert others.abs().max() < 8, "the rest is noise"


def test_parents_are_the_tiles_that_cover_them(slides):
    batch = slides(0.05).draw(3)
    coarse, fine = batch.bags[10].position, batch.bags[20].position
    for i in range(3):
        assert ((fine[i] - coarse[i][batch.parent[i]]).abs() == 56.0).all()


def test_every_slide_is_new_and_determined_by_the_seed(slides):
    one, again = slides(0.05), slides(0.05)
    first, second, same = one.draw(2), one.draw(2), again.draw(2)
    assert torch.equal(first.bags[10].features, same.bags[10].features)
    assert not torch.equal(first.bags[10].features, second.bags[10].features)
    assert not torch.equal(first.bags[10].position[0], first.bags[10].position[1]), "lists are in random order"


def test_accuracy_is_the_fraction_of_correct_classes(slides):
    from rare_signal import accuracy

    class LabelModulo3(torch.nn.Module):
        def forward(self, batch):
            return torch.nn.functional.one_hot(batch.target["label"] % 3, 4).float()

    test = [slides(0.05).draw(8) for _ in range(3)]
    labels = torch.cat([batch.target["label"] for batch in test])
    assert accuracy(LabelModulo3(), test) == pytest.approx(float((labels < 3).float().mean()))


@pytest.mark.parametrize("name", ["teacher", "teacher with the paper's fusion", "student", "gated ABMIL"])
def test_a_step_changes_every_weight(name):
    import contenders
    from token_batches import one_patient

    network = contenders.build(name)
    before = {key: value.clone() for key, value in network.named_parameters()}
    step, batch = contenders.step_of(network), one_patient(70)
    losses = [step(batch) for _ in range(3)]
    assert torch.tensor(losses).isfinite().all()
    still = [key for key, value in network.named_parameters() if torch.equal(value, before[key])]
    assert [key for key in still if not key.endswith("missing")] == [], "RNA was known, so its stand-in stays"


def test_tiles_of_a_speed_batch_are_nested():
    from token_batches import nested_grids

    places, parent = nested_grids(1003)
    assert places[10].shape == places[20].shape == (1003, 2)
    assert len(places[10].unique(dim=0)) == len(places[20].unique(dim=0)) == 1003
    assert ((places[20] - places[10][parent]).abs() == 56.0).all()
    assert parent.bincount().max() == 4


def test_the_rivals_are_as_large_as_the_published_ones():
    from contenders import build
    from token_batches import one_patient

    sizes = {name: sum(p.numel() for p in build(name).parameters()) for name in ("gated ABMIL", "MCAT-like")}
    assert sizes == {"gated ABMIL": 329_738, "MCAT-like": 7_462_412}
    batch = one_patient(300)
    for name in ("MCAT-like", "TransMIL-like"):
        logits = build(name)(batch)
        assert logits.shape == (1, 4)
        assert logits.isfinite().all()


def test_a_target_is_reached_missed_or_not_measured():
    from speed_figures import figures, markdown

    def row(model, tokens, cpu, ratio):
        return {"model": model, "tokens": tokens, "cpu_s": cpu, "wall_s": cpu, "ratio": ratio}

    result = {
        "training": [row("teacher", 2500, 0.2, 2.6), row("student", 2500, 0.1, 1.9)],
        "inference": [row("student", 2500, 0.025, 1.5), row("student", 10_000, 0.2, 2.1)],
        "memory": [{"model": "teacher", "tokens": 2500, "gib": 0.2, "gib_warm": None}],
        "million": "not run: 3.0 GiB free, 14 needed",
        "command": "python benchmarks/model_speed.py",
        "torch": "2",
        "processor": "x",
        "rounds": 5,
    }
    rows = figures(result)
    assert [f["reached"] for f in rows] == [False, True, True, None, True, False, None, False, None]
    assert rows[7]["measured"] == pytest.approx(2.0)  # 10 ms a thousand, then 20
    text = markdown(result | {"figures": rows})
    assert text.count("**missed**") == 3
    assert text.count("not measured") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads and resets a mark that Linux alone keeps")
def test_peak_memory_includes_memory_that_was_freed_again():
    from peak_memory import peak_above

    def take():
        torch.ones(50 * 2**20)  # 200 MiB

    assert peak_above(take) == pytest.approx(200 / 1024, abs=0.01)
    assert peak_above(lambda: None) < 0.01


def test_sizes_are_those_computed_by_hand():
    from sizing import size, table

    resources = size(1000, 20_000, 1024, 8, 30, 2.0, 50.0)
    tokens = 1000 * 25_000  # a quarter more at 10x
    assert resources.disk_gib == pytest.approx(tokens * (2048 + 20) / 2**30)
    assert resources.batch_gib == pytest.approx(8 * 25_000 * 2048 * 4 / 2**30)
    assert resources.extraction_hours == pytest.approx(tokens / 50 / 3600)
    assert resources.fit_hours == pytest.approx(1000 * 30 * 2 / 2.0 / 3600), "twice the tokens that the rate is of"
    assert table([resources])[-1].startswith("| 1,000 | 20,000 | 48.1 |")


def test_the_sizes_of_the_scaling_page_are_those_of_the_script(monkeypatch, capsys):
    import sizing

    monkeypatch.setattr("sys.argv", ["sizing.py"])
    sizing.run()
    page = (Path(sizing.__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page, "run `python benchmarks/sizing.py` and lay its table into the page"


def test_all_layouts_of_features_give_the_same_numbers(tmp_path):
    """Otherwise their speeds and sizes could not be compared."""
    import feature_reading as reading

    slides, tiles, dim = 2, 1500, 8  # more tokens than a chunk has
    results = reading.measure(tmp_path, slides, tiles, dim, repeats=2)
    whole, part = reading.samples(tmp_path, tiles)
    for slide in range(slides):
        wanted = np.load(tmp_path / f"{slide}.npy")
        for read in (*whole.values(), *reading.ways(tmp_path).values()):
            np.testing.assert_array_equal(read(slide), wanted)
        sampled = part[reading.STORE](slide)
        assert len(sampled) == tiles // 2
        for read in part.values():
            np.testing.assert_array_equal(read(slide), sampled)
    sizes = {name: layout["size"] for name, layout in results["layouts"].items()}
    assert sizes[reading.STORE] == 1
    assert sizes["zarr, raw, one chunk"] == pytest.approx(1, abs=0.05)
    assert sizes["zarr, zstd, one chunk"] < 1
    for layout in results["layouts"].values():
        low, high = layout["whole"]["quartiles"]
        assert low <= layout["whole"]["ratio"] <= high
    text = "\n".join(reading.table({"x": results}, slides))
    assert text.count("| x |") == 3 + 7

"""A slide is encoded in part: all coarse tiles, and the fine tiles of some of them, with the features of the whole."""

import numpy as np
import pytest

from dmml.slides.tokens import tokens_of_slide


def every_third(bag):
    return np.arange(len(bag.features))[::3]


@pytest.fixture
def path(make_slide):
    return make_slide("a.tif", boxes=((224, 224, 896, 672), (1300, 100, 300, 1100)))


def test_chosen_tiles_have_the_features_and_parents_of_the_whole_slide(path, small_encoder):
    whole, thumbnail, attributes = tokens_of_slide(path, small_encoder)
    part, part_thumbnail, part_attributes = tokens_of_slide(path, small_encoder, choose_parents=every_third)
    kept = np.isin(whole[20].parent, every_third(whole[10]))
    assert 0 < kept.sum() < len(kept)
    assert np.array_equal(part[10].features, whole[10].features)
    assert np.array_equal(part[10].position, whole[10].position)
    assert np.array_equal(part[20].features, whole[20].features[kept])
    assert np.array_equal(part[20].position, whole[20].position[kept])
    assert np.array_equal(part[20].parent, whole[20].parent[kept])
    assert np.array_equal(part_thumbnail, thumbnail)
    assert part_attributes["tiles_skipped"] == (~kept).sum()
    assert part_attributes["tiles"] == {"10": len(whole[10].features), "20": int(kept.sum())}
    assert part_attributes["dimensions"] == attributes["dimensions"]
    assert "tiles_skipped" not in attributes


def test_choosing_all_or_none_gives_all_or_no_fine_tiles(path, small_encoder):
    whole = tokens_of_slide(path, small_encoder)[0]
    everything = tokens_of_slide(path, small_encoder, choose_parents=lambda bag: np.arange(len(bag.features)))[0]
    nothing = tokens_of_slide(path, small_encoder, choose_parents=lambda bag: np.zeros(0, np.int64))[0]
    assert np.array_equal(everything[20].features, whole[20].features)
    assert np.array_equal(everything[20].parent, whole[20].parent)
    assert len(nothing[20].features) == 0
    assert np.array_equal(nothing[10].features, whole[10].features)


def test_only_the_chosen_tiles_are_encoded(path, small_encoder, monkeypatch):
    encoded, start = [], type(small_encoder).start
    monkeypatch.setattr(
        type(small_encoder), "start", lambda self, tiles: encoded.append(len(tiles)) or start(self, tiles)
    )
    part = tokens_of_slide(path, small_encoder, choose_parents=every_third)[0]
    assert sum(encoded) == len(part[10].features) + len(part[20].features)


def test_progress_ends_at_the_tiles_that_were_encoded(path, small_encoder):
    calls = []
    part = tokens_of_slide(
        path, small_encoder, choose_parents=every_third, progress=lambda done, total: calls.append((done, total))
    )[0]
    assert calls[-1] == (len(part[10].features) + len(part[20].features),) * 2


def test_with_one_magnification_nothing_is_chosen(path, small_encoder):
    whole = tokens_of_slide(path, small_encoder, magnifications=(20,))[0]
    part = tokens_of_slide(path, small_encoder, magnifications=(20,), choose_parents=every_third)[0]
    assert np.array_equal(part[20].features, whole[20].features)

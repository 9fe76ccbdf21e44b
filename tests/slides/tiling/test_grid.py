"""The nested grid against slow loops over tiles, in µm."""

import numpy as np
import pytest

from dmml.errors import InputError
from dmml.slides.tiling.grid import check_magnifications, lay_tiles, tissue_share


def slow_grid(mask, size_um, least=0.25):
    """{20: centres, 10: centres, parents} by visiting every mask pixel of every tile; 8 µm a mask pixel."""
    fine, parents = [], []
    y = 0
    while (y + 1) * 112 <= size_um[1]:
        x = 0
        while (x + 1) * 112 <= size_um[0]:
            hits = sum(
                bool(mask[v, u])
                for v in range(y * 14, y * 14 + 14)
                for u in range(x * 14, x * 14 + 14)
                if v < mask.shape[0] and u < mask.shape[1]
            )
            if hits / 196 >= least:
                fine.append((x, y))
            x += 1
        y += 1
    coarse = sorted({(y // 2, x // 2) for x, y in fine})
    parents = [coarse.index((y // 2, x // 2)) for x, y in fine]
    return (
        np.array([((x + 0.5) * 112, (y + 0.5) * 112) for x, y in fine]),
        np.array([((x + 0.5) * 224, (y + 0.5) * 224) for y, x in coarse]),
        parents,
    )


@pytest.mark.parametrize("size_um", [(1107.78, 1480.5), (1120.0, 1120.0), (1119.9, 1231.9), (336.0, 112.0)])
def test_grid_equals_the_slow_loop(size_um):
    rng = np.random.default_rng(5)
    shape = tuple(int(np.ceil(um / 8)) for um in reversed(size_um))
    mask = np.kron(rng.random((shape[0] // 6 + 1, shape[1] // 6 + 1)) < 0.3, np.ones((6, 6), bool))[
        : shape[0], : shape[1]
    ]
    tiles = lay_tiles(tissue_share(mask, 8.0, 112.0, size_um), 20, (10, 20))
    fine, coarse, parents = slow_grid(mask, size_um)
    assert len(fine) > 0
    np.testing.assert_array_equal(tiles[20].position, fine.astype(np.float32))
    np.testing.assert_array_equal(tiles[10].position, coarse.astype(np.float32))
    assert tiles[20].parent.tolist() == parents
    assert tiles[10].parent is None
    assert tiles[20].position.dtype == np.float32
    assert tiles[20].parent.dtype == np.int32


def test_a_tile_is_kept_from_exactly_a_quarter_of_tissue():
    mask = np.zeros((14, 28), bool)
    mask[:7, :7] = True  # 49 of 196 = 0.25
    mask[:7, 14:21] = True
    mask[0, 14] = False
    tiles = lay_tiles(tissue_share(mask, 8.0, 112.0, (224.0, 112.0)), 20, (10, 20))
    assert tiles[20].position.tolist() == [[56.0, 56.0]]


def test_tiles_over_the_edge_are_left_out_but_parents_may_extend_over_it():
    mask = np.ones((42, 42), bool)
    tiles = lay_tiles(tissue_share(mask, 8.0, 112.0, (335.9, 336.0)), 20, (10, 20))
    assert len(tiles[20]) == 2 * 3
    assert tiles[10].position.tolist() == [[112.0, 112.0], [112.0, 336.0]]


def test_every_child_lies_inside_its_parent_row_by_row():
    rng = np.random.default_rng(6)
    tiles = lay_tiles(rng.random((21, 17)), 20, (10, 20))
    offset = tiles[20].position - tiles[10].position[tiles[20].parent]
    assert set(np.abs(offset).ravel().tolist()) == {56.0}
    assert set(tiles[20].parent.tolist()) == set(range(len(tiles[10])))
    for m in (10, 20):
        order = np.lexsort((tiles[m].cell[:, 0], tiles[m].cell[:, 1]))
        assert order.tolist() == list(range(len(tiles[m])))


def test_a_single_magnification_has_the_same_tiles_as_in_a_pair():
    share = np.random.default_rng(7).random((9, 12)) * 0.4
    pair = lay_tiles(share, 20, (10, 20))
    for m in (10, 20):
        alone = lay_tiles(share, 20, (m,))
        assert list(alone) == [m]
        np.testing.assert_array_equal(alone[m].position, pair[m].position)
        assert alone[m].parent is None


def test_no_tissue_gives_no_tiles():
    tiles = lay_tiles(np.zeros((4, 5)), 20, (10, 20))
    assert [len(tiles[m]) for m in (10, 20)] == [0, 0]


def test_magnifications_are_checked():
    assert check_magnifications([20, 10]) == (10, 20)
    assert check_magnifications([40]) == (40,)
    for wrong in ([10, 40], [5, 10, 20], [15], [], [0]):
        with pytest.raises(InputError, match="--magnifications"):
            check_magnifications(wrong)

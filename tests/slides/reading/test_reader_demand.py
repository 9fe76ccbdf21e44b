"""Readers are added while an encoder waits for pixels, and only then."""

import time

import pytest

from dmml.slides.extraction.extract import extract
from dmml.slides.reading import reader_demand, reader_pool
from dmml.slides.reading.reader_demand import ReaderDemand
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.tiling.layout import SlideRequest
from dmml.store import FeatureStore

WINDOW_S = 0.1


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(reader_pool, "usable_cores", lambda: 3)
    monkeypatch.setattr(reader_demand, "WINDOW_S", WINDOW_S)


def wait(demand, pixels, features, windows=6):
    """Spend `windows` windows in waiting for pixels and for features, in these shares of the time."""
    with demand.waiting_for_pixels():
        pass
    for _ in range(5 * windows):
        with demand.waiting_for_features():
            time.sleep(features * WINDOW_S / 5)
        with demand.waiting_for_pixels():
            time.sleep(pixels * WINDOW_S / 5)


@pytest.mark.parametrize(("pixels", "features", "readers"), [(0.9, 0.1, 3), (0.2, 0.8, 1), (0.0, 1.0, 1)])
def test_readers_are_added_up_to_the_number_of_cores_if_pixels_are_waited_for_longer(pixels, features, readers):
    with ReaderPool(None) as pool:
        assert pool.n_readers == 1
        wait(ReaderDemand(pool), pixels, features)
        assert pool.n_readers == readers


def test_the_time_before_the_first_pixels_does_not_count():
    with ReaderPool(None) as pool:
        demand = ReaderDemand(pool)
        with demand.waiting_for_pixels():
            time.sleep(2 * WINDOW_S)
        with demand.waiting_for_features():
            time.sleep(WINDOW_S)
        with demand.waiting_for_pixels():
            pass
        assert pool.n_readers == 1


def test_a_number_that_the_user_gave_stays():
    with ReaderPool(2) as pool:
        wait(ReaderDemand(pool), 1.0, 0.0)
        assert pool.n_readers == 2
        assert not pool.add_reader()


def test_only_as_many_processes_work_as_were_added(make_slide):
    requests = [SlideRequest(make_slide(f"{number}.tif"), (10, 20)) for number in range(6)]
    with ReaderPool(None) as pool:
        for future in [pool.lay_out(request) for request in requests]:
            assert len(future.result().tiles[20])
        assert len(pool._readers) == 1
        assert pool.add_reader()
        for future in [pool.lay_out(request) for request in requests]:
            future.result()
        assert len(pool._readers) == 2


def test_a_pool_that_is_left_early_starts_no_further_process(make_slide):
    requests = [SlideRequest(make_slide(f"{number}.tif"), (10, 20)) for number in range(6)]
    with ReaderPool(None) as pool:
        futures = [pool.lay_out(request) for request in requests]
        futures[0].result()
    assert len(pool._readers) == 1
    assert all(future.done() for future in futures)


def test_the_store_does_not_depend_on_the_number_of_readers(make_slide, small_encoder, tmp_path):
    for name in "abcdef":
        make_slide(f"in/{name}.tif")
    stores = [tmp_path / f"{readers}.zarr" for readers in (0, None)]
    for readers, store in zip((0, None), stores, strict=True):
        extract(["in"], store, small_encoder, readers=readers)
    assert FeatureStore(stores[0]).slides() == list("abcdef")
    for path in stores[0].rglob("*"):
        if path.is_file():
            assert (stores[1] / path.relative_to(stores[0])).read_bytes() == path.read_bytes()

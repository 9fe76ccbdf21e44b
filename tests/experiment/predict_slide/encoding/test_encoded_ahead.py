"""The next patient is encoded while the answer of the one before is written, and an interruption ends both."""

import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from dmml.experiment.predict_slide.encoding.encoded_ahead import EncodedAhead, EncodedCase
from dmml.experiment.predict_slide.input import Case
from dmml.slides.slide_error import SlideError

WAIT_S = 30


@pytest.fixture
def cases(tmp_path):
    return [Case((Path(f"{name}.svs"),), tmp_path / name) for name in "abc"]


def encoded_as(case):
    return EncodedCase(sources=[{"slide_id": case.name}])


def test_patients_come_in_order_each_with_its_slides(cases):
    seen = []
    with EncodedAhead(cases, lambda case, progress: encoded_as(case), None) as ahead:
        for case, encoded in ahead:
            seen.append((case.name, encoded.result().sources[0]["slide_id"]))
    assert seen == [("a", "a"), ("b", "b"), ("c", "c")]


def test_one_patient_is_encoded_ahead_and_no_more(cases):
    started = {case.name: threading.Event() for case in cases}

    def encode(case, progress):
        started[case.name].set()
        return encoded_as(case)

    with EncodedAhead(cases, encode, None) as ahead:
        patients = iter(ahead)
        next(patients)
        assert started["b"].wait(WAIT_S), "while a is written"
        assert not started["c"].wait(0.2)
        next(patients)
        assert started["c"].wait(WAIT_S)


def test_a_slide_that_cannot_be_used_fails_its_patient_alone(cases):
    def encode(case, progress):
        if case.name == "b":
            raise SlideError("unreadable", "b.svs: cannot be decoded")
        return encoded_as(case)

    names = []
    with EncodedAhead(cases, encode, None) as ahead:
        for case, encoded in ahead:
            try:
                encoded.result()
            except SlideError:
                continue
            names.append(case.name)
    assert names == ["a", "c"]


def test_leaving_early_ends_the_work_after_the_present_batch(cases):
    batches, ended = [], threading.Event()

    def encode(case, progress):
        if case.name == "a":
            return encoded_as(case)
        try:
            for batch in range(10_000_000):
                batches.append(batch)
                progress("b", batch, 10_000_000)
        except CancelledError:
            ended.set()
            raise
        return encoded_as(case)

    def interrupted():
        with EncodedAhead(cases, encode, None) as ahead:
            for _ in ahead:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended.is_set() or not batches
    assert len(batches) < 10_000_000


def test_progress_is_reported_with_the_slide(cases):
    reported = []

    def encode(case, progress):
        progress(case.name, 1, 2)
        return encoded_as(case)

    with EncodedAhead(cases, encode, lambda *seen: reported.append(seen)) as ahead:
        list(ahead)
    assert reported == [("a", 1, 2), ("b", 1, 2), ("c", 1, 2)]

"""A forward pass of few tokens takes one thread, and the number of threads is what it was afterwards."""

import pytest
import torch
from batches import make_batch

from dmml.experiment.predict_slide.threads import MAX_TOKENS, threads_for


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("tokens", "threads"), [(9, 1), (MAX_TOKENS, 3)])
def test_few_tokens_take_one_thread(three_threads, tokens, threads):
    with threads_for(make_batch((9,), (tokens,))):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_the_threads_are_given_back_after_an_error(three_threads):
    with pytest.raises(ZeroDivisionError), threads_for(make_batch()):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == 3

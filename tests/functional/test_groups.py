"""Sums by group: both ways of computing them, and their precision over long runs."""

import pytest
import torch

from dmml.functional.groups import sum_by_group


@pytest.mark.parametrize("n", [0, 1, 7, 1300])
def test_sums_are_those_of_a_loop_and_leave_out_tokens_without_group(n):
    generator = torch.Generator().manual_seed(n)
    tokens = torch.randn(2, n, 5, generator=generator)
    group = torch.randint(-1, 4, (2, n), generator=generator)
    expected = torch.zeros(2, 4, 5, dtype=torch.float64)
    for b in range(2):
        for token, index in zip(tokens[b].double(), group[b].tolist(), strict=True):
            if index >= 0:
                expected[b, index] += token
    torch.testing.assert_close(sum_by_group(tokens, group, 4).double(), expected, atol=1e-4, rtol=1e-5)
    product = torch.nn.functional.one_hot(group + 1, 5)[..., 1:].float().transpose(1, 2) @ tokens
    torch.testing.assert_close(sum_by_group(tokens, group, 4), product, atol=1e-4, rtol=1e-5)


def test_sums_of_many_tokens_far_from_zero_keep_their_precision():
    tokens = 100 + torch.randn(1, 200_000, 2, generator=torch.Generator().manual_seed(0))
    mean = sum_by_group(tokens, torch.zeros(1, 200_000, dtype=torch.long), 1) / 200_000
    torch.testing.assert_close(mean[0, 0].double(), tokens[0].double().mean(0), atol=2e-4, rtol=0)

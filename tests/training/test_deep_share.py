"""The share of the deep part is not chosen by noise, and a real gain is recognised."""

import numpy as np
import torch

from dmml.training.deep_share import SHARES, ShareScores, ShareSums


def of(scores, rows=None):
    """Scores (S, n) of one process, in batches of seven."""
    rows = torch.ones(scores.shape[1], dtype=torch.bool) if rows is None else rows
    sums = ShareSums()
    for part, rows_of_part in zip(scores.split(7, 1), rows.split(7), strict=True):
        sums.add(part, rows_of_part)
    return sums.scores(lambda values: values)


def scores_of(generator, n, gain, noise=1.0):
    """Each patient's score falls with the squared distance of the share from what is right for the patient."""
    share = torch.tensor(SHARES).unsqueeze(1)
    slope = gain + noise * torch.randn(n, generator=generator)
    return torch.randn(n, generator=generator) * 3 + share * slope - 0.3 * share.square()


def test_a_gain_that_is_noise_is_rarely_chosen():
    generator = torch.Generator().manual_seed(0)
    shares = [of(scores_of(generator, 40, gain=0.0)).choose() for _ in range(400)]
    assert np.mean([share > 0 for share in shares]) < 0.03


def test_a_real_gain_is_chosen_even_if_patients_differ_more_than_that():
    generator = torch.Generator().manual_seed(1)
    shares = [of(scores_of(generator, 40, gain=1.2)).choose() for _ in range(100)]
    assert np.mean([share > 0 for share in shares]) > 0.95
    assert np.mean([share == len(SHARES) - 1 for share in shares]) > 0.7


def test_means_and_standard_errors_are_those_of_observed_patients():
    scores = torch.randn(len(SHARES), 30).double()
    rows = torch.arange(30) % 4 != 1
    scored = of(torch.where(rows, scores, torch.nan), rows)
    gain = (scores - scores[:1])[:, rows]
    assert scored.n == int(rows.sum())
    torch.testing.assert_close(scored.mean, scores[:, rows].mean(1))
    torch.testing.assert_close(scored.gain, gain.mean(1))
    torch.testing.assert_close(scored.error, gain.std(1) / rows.sum().sqrt())


def test_two_processes_give_the_sums_of_one():
    scores = torch.randn(len(SHARES), 31)
    halves = [ShareSums(), ShareSums()]
    for sums, part in zip(halves, (scores[:, :12], scores[:, 12:]), strict=True):
        sums.add(part, torch.ones(part.shape[1], dtype=torch.bool))
    first_sums = []
    halves[0].scores(lambda values: first_sums.append(values) or values)
    together = halves[1].scores(lambda values: values + first_sums[0])
    whole = of(scores)
    for name in ("mean", "gain", "error"):
        torch.testing.assert_close(getattr(together, name), getattr(whole, name))
    assert together.n == whole.n == 31


def test_without_patients_or_with_a_single_one_no_share_is_chosen():
    for n in (0, 1):
        scored = of(torch.linspace(0, 9, len(SHARES)).unsqueeze(1).expand(-1, 5), torch.arange(5) < n)
        assert scored.n == n
        assert scored.choose() == 0
        assert scored.mean.isfinite().all()


def test_a_share_that_improves_one_measure_and_worsens_the_other_is_not_chosen():
    def scores(last, error):
        gain = torch.linspace(0, last, len(SHARES))
        return ShareScores(gain, gain, torch.full_like(gain, error), 20)

    assert scores(1.0, 0.1).choose() == len(SHARES) - 1
    assert scores(1.0, 0.1).choose(guard=scores(0.05, 0.1)) == len(SHARES) - 1
    assert scores(1.0, 0.1).choose(guard=scores(-0.05, 0.1)) == 0

"""Is annealing that of BBF (Schwarzer et al. 2023)? Its schedule by sums of logarithms, and values by hand."""

import math

import pytest

from agents.annealing import Annealing

BBF = Annealing(3, 0.997, n_step_start=10, gamma_start=0.97, over_updates=10_000)


def source(updates):
    """As BBF.gin and `exponential_decay_scheduler` say it: n as a share of the largest, gamma mirrored at 1."""
    left = min(max((10_000 - updates) / 10_000, 0.0), 1.0)
    share = math.exp(left * (math.log(1) - math.log(3 / 10)) + math.log(3 / 10))
    short_of_1 = math.exp(left * (math.log(1 - 0.97) - math.log(1 - 0.997)) + math.log(1 - 0.997))
    return round(10 * share), 1 - short_of_1


@pytest.mark.parametrize("updates", [0, 1, 426, 427, 1_000, 2_500, 5_000, 9_000, 9_999, 10_000, 39_999])
def test_as_the_source(updates):
    n_step, gamma = BBF.at(updates)
    expected_n, expected_gamma = source(updates)
    assert n_step == expected_n
    assert gamma == pytest.approx(expected_gamma, rel=1e-12)


def test_by_hand():
    """Ends are exact; in the middle are geometric means: sqrt(30) = 5.48 steps, 1 - sqrt(0.03 * 0.003)."""
    assert BBF.at(0) == (10, pytest.approx(0.97, rel=1e-15))
    assert BBF.at(5_000) == (5, pytest.approx(1 - math.sqrt(9e-5), rel=1e-12))
    assert BBF.at(10_000) == BBF.at(10**6) == (3, pytest.approx(0.997, rel=1e-15))
    lengths = [BBF.at(k)[0] for k in range(10_001)]
    assert lengths == sorted(lengths, reverse=True)
    assert set(lengths) == set(range(3, 11))
    # n = 10 while 10 * 0.3^x > 9.5
    assert lengths.count(10) == math.ceil(10_000 * math.log(0.95) / math.log(0.3))

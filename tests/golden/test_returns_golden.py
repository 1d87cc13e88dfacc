"""Lambda-returns against their definition: a weighted sum of n-step returns, each summed by itself in float64.

Dimensions: T steps, N environments.
"""

import numpy as np
import pytest
import torch

from agents.learning.returns import lambda_returns, sequence_priority

GAMMA = 0.9


def n_step_return(t, n, reward, discount, next_value):
    """sum_k (prod of discounts before k) r_{t+k} + (prod of n discounts) V_{t+n}, of one environment."""
    total, factor = 0.0, 1.0
    for k in range(t, t + n):
        total += factor * reward[k]
        factor *= discount[k]
    return total + factor * next_value[t + n - 1]


def by_definition(reward, discount, next_value, episode_end, lambda_):
    """(1 - lambda) sum_{n < H} lambda^(n-1) G^(n) + lambda^(H-1) G^(H), H steps being left of episode and stretch."""
    T, N = reward.shape
    found = np.zeros((T, N))
    for env in range(N):
        columns = [x[:, env] for x in (reward, discount, next_value)]
        for t in range(T):
            left = next((k - t + 1 for k in range(t, T) if episode_end[k, env]), T - t)
            returns = [n_step_return(t, n, *columns) for n in range(1, left + 1)]
            weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, left)] + [lambda_ ** (left - 1)]
            assert sum(weights) == pytest.approx(1)
            found[t, env] = sum(w * g for w, g in zip(weights, returns, strict=True))
    return found


def stretch(seed, T=12, N=6):
    """Terminated, truncated and lost-life steps (terminal, but the episode goes on) in one stretch."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["goes on", "terminated", "truncated", "life lost"], (T, N), p=[0.6, 0.15, 0.15, 0.1])
    assert len(np.unique(kind)) == 4
    end, terminal = (np.isin(kind, ["terminated", x]) for x in ("truncated", "life lost"))
    return rng.normal(size=(T, N)), GAMMA * ~terminal, rng.normal(size=(T, N)), end


def tensors(arrays):
    return [torch.tensor(x, dtype=torch.bool if x.dtype == bool else torch.float32) for x in arrays]


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.65, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_lambda_returns(lambda_, seed):
    arrays = stretch(seed)
    got = lambda_returns(*tensors(arrays), lambda_)
    assert got.dtype == torch.float32
    # Twelve float32 steps with values of about 1.
    np.testing.assert_allclose(got.numpy(), by_definition(*arrays, lambda_), rtol=0, atol=2e-6)


def test_lambda_0_is_one_step():
    reward, discount, next_value, end = tensors(stretch(0))
    assert torch.equal(lambda_returns(reward, discount, next_value, end, 0.0), reward + discount * next_value)


def test_lambda_1_is_the_return_of_the_episode():
    """By hand, gamma = 1/2: a truncated end bootstraps its 100, a terminated one does not, the last step does."""
    reward, next_value = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([7.0, 100.0, 7.0, 1000.0, 10.0])
    discount, end = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.5]), torch.tensor([False, True, False, True, False])
    got = lambda_returns(*(x[:, None] for x in (reward, discount, next_value, end)), 1.0)
    assert got[:, 0].tolist() == [1 + (2 + 50) / 2, 2 + 50, 4 + 8 / 2, 8, 16 + 5]


def test_an_episode_knows_nothing_of_the_next():
    reward, discount, next_value, end = tensors(stretch(1))
    first = lambda_returns(reward, discount, next_value, end, 0.8)
    stop = int(end[:, 0].nonzero()[0]) + 1
    reward[stop:], next_value[stop:] = 1e6, -1e6
    assert torch.equal(lambda_returns(reward, discount, next_value, end, 0.8)[:stop, 0], first[:stop, 0])


def test_true_values_are_a_fixed_point():
    """One state, reward 1 for ever: worth 10 at gamma = 0.9, whatever lambda and the cuts."""
    end = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) < 0.3
    ones = torch.ones(20, 3)
    for lambda_ in (0.0, 0.5, 1.0):
        torch.testing.assert_close(lambda_returns(ones, 0.9 * ones, 10 * ones, end, lambda_), 10 * ones)


def test_what_lambda_returns_refuse():
    reward, discount, next_value, end = tensors(stretch(0))
    for wrong in (discount[:, :1], discount[0], discount[:-1]):
        with pytest.raises(ValueError, match=r"must all be \[T, N\], got"):
            lambda_returns(reward, wrong, next_value, end, 0.5)
    with pytest.raises(ValueError, match=r"must all be \[T, N\], got"):
        lambda_returns(reward[0], discount[0], next_value[0], end[0], 0.5)
    with pytest.raises(ValueError, match=r"lambda must be in \[0, 1\], got 1.5"):
        lambda_returns(reward, discount, next_value, end, 1.5)


def test_sequence_priority_by_hand():
    td_error = torch.tensor([[1.0, 0.0], [-4.0, 0.0], [1.0, 3.0]])
    expected = torch.tensor([0.9 * 4 + 0.1 * 2, 0.9 * 3 + 0.1 * 1])
    torch.testing.assert_close(sequence_priority(td_error), expected)
    torch.testing.assert_close(sequence_priority(td_error, eta=0.0), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(sequence_priority(td_error, eta=1.0), torch.tensor([4.0, 3.0]))


def test_sequence_priority_of_real_steps_by_hand():
    td_error = torch.tensor([[1.0, 0.0], [-4.0, -2.0], [9.0, torch.nan]])
    real = torch.tensor([[True, True], [True, True], [False, False]])
    expected = torch.tensor([0.9 * 4 + 0.1 * 2.5, 0.9 * 2 + 0.1 * 1])
    torch.testing.assert_close(sequence_priority(td_error, real), expected)

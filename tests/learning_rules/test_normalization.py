"""Running statistics against numpy on everything at once."""

import numpy as np
import pytest
import torch

from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from agents.normalization import ObservationNormalizer, RewardScale
from value_heads import make_head


@pytest.mark.parametrize("shape", [(3,), (2, 4)])
def test_observations_are_normalised_by_all_that_were_seen(shape):
    rng = np.random.default_rng(0)
    # Offsets far from 0 compared with the spread: float32 or a difference of squares would lose the variance.
    batches = [(rng.normal(1e4, 0.5, (n, *shape)) * 3).astype(np.float32) for n in (1, 7, 1, 30, 2)]
    normalizer = ObservationNormalizer(shape)
    for seen, batch in enumerate(batches):
        normalizer.update(torch.from_numpy(batch))
        together = np.concatenate(batches[: seen + 1]).astype(np.float64)
        assert float(normalizer.count) == len(together)
        # float64 on numbers of 3e4 leaves 1e-11 of the mean, and of squared deviations of about 2.
        np.testing.assert_allclose(normalizer.mean.numpy(), together.mean(0), rtol=1e-14)
        np.testing.assert_allclose(normalizer.var.numpy(), together.var(0), rtol=1e-9, atol=1e-9)
    out = normalizer(torch.from_numpy(together.astype(np.float32)))
    expected = (together - together.mean(0)) / np.sqrt(together.var(0) + 1e-8)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_it_changes_nothing_before_it_has_seen_anything():
    obs = torch.tensor([[0.5, -3.0]])
    torch.testing.assert_close(ObservationNormalizer((2,))(obs), obs, rtol=1e-7, atol=0)  # 1 + 1e-8 under a root


def test_far_observations_are_clipped():
    normalizer = ObservationNormalizer((1,))
    normalizer.update(torch.tensor([[-1.0], [1.0]]))
    assert normalizer(torch.tensor([[50.0], [-50.0], [9.0]]))[:, 0].tolist() == pytest.approx([10, -10, 9], rel=1e-6)


def test_a_constant_element_stays_finite():
    normalizer = ObservationNormalizer((1,))
    normalizer.update(torch.full((5, 1), 3.0))
    assert normalizer(torch.tensor([[3.0], [4.0]]))[:, 0].tolist() == [0.0, 10.0]


def test_bytes_are_normalised_on_the_scale_on_which_the_network_sees_them():
    """QNetwork turns bytes into [0, 1] first; statistics of 0 .. 255 would then make everything alike."""
    normalizer = ObservationNormalizer((4,))
    torso = MLP((4,), hidden=())
    network = QNetwork(torso, make_head("mse", in_features=4, num_actions=4, support=(-1, 1)), normalizer)
    with torch.no_grad():
        network.head.output.last.weight.copy_(torch.eye(4))
        network.head.output.last.bias.zero_()
        obs = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (400, 4), np.uint8))
        normalizer.update(obs)
        seen = network(obs).mean().double().numpy()
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-6)  # float32 roundings
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-5)  # and 1e-8 beside a variance of 1/12


def test_statistics_are_part_of_the_state():
    one, two = ObservationNormalizer((2,)), ObservationNormalizer((2,))
    one.update(torch.randn(9, 2))
    two.load_state_dict(one.state_dict())
    more = torch.randn(5, 2)
    one.update(more)
    two.update(more)
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert set(one.state_dict()) == {"mean", "var", "count"}


def run(scale, rewards, ends):
    for reward, end in zip(rewards, ends, strict=True):
        scale.update(reward, end)


def episodes(steps=60, num_envs=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(2.0, 3.0, (steps, num_envs)), rng.random((steps, num_envs)) < 0.15


def test_reward_scale_is_one_over_the_deviation_of_returns():
    rewards, ends = episodes()
    forward = []
    for env in range(3):
        total = 0.0
        for reward, end in zip(rewards[:, env], ends[:, env], strict=True):
            total = 0.9 * total + reward
            forward.append(total)
            total = 0.0 if end else total
    scale = RewardScale(3, 0.9)
    run(scale, rewards, ends)
    assert scale.factor() == pytest.approx(1 / np.std(forward), rel=1e-12)


def test_reward_scale_before_there_is_a_spread():
    scale = RewardScale(2, 0.9)
    assert scale.factor() == 1.0
    for _ in range(5):  # one-step episodes with one reward
        scale.update(np.full(2, 0.1), np.ones(2, bool))
    assert scale.factor() == 1.0


def test_reward_scale_goes_on_from_its_state():
    (rewards, ends), straight, resumed = episodes(), RewardScale(3, 0.9), RewardScale(3, 0.9)
    run(straight, rewards[:25], ends[:25])
    resumed.load_state_dict(straight.state_dict())
    for scale in (straight, resumed):
        run(scale, rewards[25:], ends[25:])
    assert resumed.factor() == straight.factor()
    assert resumed.state_dict() == straight.state_dict()

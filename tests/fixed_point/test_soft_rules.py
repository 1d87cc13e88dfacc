"""Where do the rules come to rest? Each as an operator on a table, iterated on the toy chain, against linear algebra.

The table is a linear network on one-hot states; every transition is backed up with its probability, so that nothing is
sampled. S states, A actions.
"""

import functools

import numpy as np
import pytest
import torch

from agents.learning.batch import Batch
from agents.learning.targets import expected_sarsa, munchausen, q_learning
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from envs.toy import Chain
from value_heads import make_head

GAMMA, S, A = 0.9, 5, 2
CHAIN = Chain(length=S, slip=0.1)
MODEL = CHAIN.transition_model()
# Tables are float32, and what is rounded at each of the last backups adds up to 10 times as much.
TOLERANCE = 2e-5


def fixed_point(rule, sweeps=300, masked=None):
    """The table at which sweeps of `rule` come to rest, [S, A]."""
    net = QNetwork(MLP((S,), hidden=()), make_head("mse", in_features=S, num_actions=A, support=(-2, 2)))
    net.requires_grad_(False)
    layer = net.head.output.last
    layer.weight.zero_()
    layer.bias.zero_()
    state, action, successor = (torch.tensor(x) for x in np.nonzero(MODEL.probs))
    prob, reward = (torch.tensor(x[MODEL.probs > 0]).float() for x in (MODEL.probs, MODEL.reward))
    batch = Batch(
        obs=torch.eye(S + 1)[state, :S],
        action=action,
        reward=reward,
        discount=GAMMA * (successor < S).float(),
        next_obs=torch.eye(S + 1)[successor, :S],
        weight=prob,
    )
    for _ in range(sweeps):
        goal = prob * rule(net, net, batch, None).mean()
        layer.weight.copy_(torch.zeros(A, S).index_put((action, state), goal, accumulate=True))
    return layer.weight.T.double().numpy()


def soft_value_iteration(temperature):
    """Q = r + gamma * sum P temperature log sum exp(Q / temperature), in float64."""
    q = np.zeros((S, A))
    for _ in range(500):
        top = q.max(1)
        value = np.append(top + temperature * np.log(np.exp((q - top[:, None]) / temperature).sum(1)), 0.0)
        q = (MODEL.probs * (MODEL.reward + GAMMA * value)).sum(-1)
    return q


def gaps(q):
    return q[:, 1] - q[:, 0]


def test_q_learning():
    np.testing.assert_allclose(fixed_point(q_learning), CHAIN.optimal_q(GAMMA), atol=TOLERANCE)


@pytest.mark.parametrize("temperature", [0.03, 0.3])
def test_munchausen_without_its_bonus_is_soft_value_iteration(temperature):
    rule = functools.partial(munchausen, scale=0.0, temperature=temperature)
    np.testing.assert_allclose(fixed_point(rule), soft_value_iteration(temperature), atol=TOLERANCE)


@pytest.mark.parametrize(("temperature", "scale"), [(0.3, 0.9), (0.3, 0.5), (0.03, 0.9)])
def test_munchausen_is_the_soft_optimum_with_a_wider_action_gap(temperature, scale):
    """Its policy is that of soft value iteration at (1 - scale) * temperature, so gaps are 1 / (1 - scale) as wide.

    Vieillard et al. 2020, Thm. 1 and s. 4: scale is how much of the entropy term is one of KL to the last policy.
    """
    got = fixed_point(functools.partial(munchausen, scale=scale, temperature=temperature, clip=-1e9), sweeps=600)
    soft = soft_value_iteration((1 - scale) * temperature)
    np.testing.assert_allclose(gaps(got), gaps(soft) / (1 - scale), rtol=1e-3)
    # The best actions of both are worth the same but for the bonus of the policy that is nearly sure of them.
    np.testing.assert_array_equal(got.argmax(1), CHAIN.optimal_q(GAMMA).argmax(1))


def test_munchausen_as_published_finds_the_best_policy_with_a_wider_gap():
    """With the clipping of the paper, which bounds what the gap can gain."""
    best, got = CHAIN.optimal_q(GAMMA), fixed_point(munchausen)
    np.testing.assert_array_equal(got.argmax(1), best.argmax(1))
    assert (gaps(got) > 1.5 * gaps(best)).all(), (gaps(got), gaps(best))
    plain = fixed_point(functools.partial(munchausen, scale=0.0))
    assert (gaps(got) > 1.5 * gaps(plain)).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_expected_sarsa_is_worth_what_its_policy_earns(epsilon):
    """The value of a fixed policy by a linear system; going right is best at every epsilon here."""
    got = fixed_point(functools.partial(expected_sarsa, epsilon=epsilon))
    policy = np.full((S, A), epsilon / A)
    policy[:, 1] += 1 - epsilon
    assert (got.argmax(1) == 1).all()
    reward = (policy * (MODEL.probs * MODEL.reward).sum(-1)).sum(1)
    transition = (policy[..., None] * MODEL.probs).sum(1)[:, :S]
    value = np.append(np.linalg.solve(np.eye(S) - GAMMA * transition, reward), 0.0)
    np.testing.assert_allclose(got, (MODEL.probs * (MODEL.reward + GAMMA * value)).sum(-1), atol=TOLERANCE)
    if epsilon == 0:
        np.testing.assert_allclose(got, CHAIN.optimal_q(GAMMA), atol=TOLERANCE)

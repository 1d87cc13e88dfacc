"""Target rules against tables worked out by hand, with networks that are tables themselves.

Two states (observations are one-hot) and three actions.
"""

import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import Batch
from agents.learning.learner import TDLoss
from agents.learning.targets import TARGET_RULES, double_q_learning, q_learning, sarsa
from agents.networks.qnetwork import QNetwork, greedy
from agents.networks.torsos import MLP
from value_heads import make_head

ONLINE = [[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]]
TARGET = [[10.0, 20.0, 30.0], [-1.0, -2.0, -3.0]]
ALL, FIRST_TWO, OUTER, LAST_TWO = [True] * 3, [True, True, False], [True, False, True], [False, True, True]


def table_network(table, head_name="mse", **options):
    """A network whose raw outputs in state s are table[s], [A] or [A, D]."""
    torso = MLP((2,), hidden=())
    head = make_head(head_name, in_features=2, num_actions=3, support=(0, 2), **options)
    with torch.no_grad():
        head.output.last.weight.copy_(torch.tensor(table).flatten(1).T)
        head.output.last.bias.zero_()
    return QNetwork(torso, head)


def transitions(masks=None, next_action=None, discount=(0.5, 0.9, 0.0, 0.25)):
    """Four transitions, to the states 0, 1, 0, 1; the third is terminal."""
    return Batch(
        obs=torch.eye(2)[[1, 1, 1, 1]],
        action=torch.tensor([0, 1, 2, 0]),
        reward=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        discount=torch.tensor(discount),
        next_obs=torch.eye(2)[[0, 1, 0, 1]],
        weight=torch.ones(4),
        next_action=None if next_action is None else torch.tensor(next_action),
        next_mask=None if masks is None else torch.tensor(masks),
    )


SOME = [OUTER, LAST_TWO, ALL, ALL]
# r + discount * Q_target(s', a), with the a that is meant written beside it.
TABLES = [
    (q_learning, {}, [1 + 0.5 * 30, 2 + 0.9 * -1, 3, 4 + 0.25 * -1]),  # 2, 0, -, 0: largest of the target
    (q_learning, {"masks": [FIRST_TWO, LAST_TWO, ALL, ALL]}, [1 + 0.5 * 20, 2 + 0.9 * -2, 3, 4 + 0.25 * -1]),
    (double_q_learning, {}, [1 + 0.5 * 20, 2 + 0.9 * -1, 3, 4 + 0.25 * -1]),  # 1, 0, -, 0: largest of online
    (double_q_learning, {"masks": SOME}, [1 + 0.5 * 30, 2 + 0.9 * -3, 3, 4 + 0.25 * -1]),  # 2, 2, -, 0
    (sarsa, {"next_action": [0, -1, 2, 1]}, [1 + 0.5 * 10, 2 + 0.9 * -1, 3, 4 + 0.25 * -2]),  # 0, greedy, -, 1
    (sarsa, {"next_action": [-1, -1, -1, 2], "masks": SOME}, [1 + 0.5 * 30, 2 + 0.9 * -2, 3, 4 + 0.25 * -3]),
]


@pytest.mark.parametrize(("rule", "given", "expected"), TABLES)
def test_a_rule_by_hand_with_a_scalar_head(rule, given, expected):
    goal = rule(table_network(ONLINE), table_network(TARGET), transitions(**given), None)
    assert goal.probs.tolist() == [[1.0]] * 4
    # Sums of two products in float32.
    torch.testing.assert_close(goal.values, torch.tensor(expected)[:, None], rtol=1e-6, atol=0)


def logits(probs):
    return torch.tensor(probs).log().tolist()


# Bins at 0, 1, 2. Means of the target in state 0: 0.5, 1.0, 1.4, in state 1: 1.85, 0.15, 1.0.
C51_TARGET = logits([
    [[0.6, 0.3, 0.1], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]],
    [[0.05, 0.05, 0.9], [0.9, 0.05, 0.05], [0.3, 0.4, 0.3]],
])  # fmt: skip
# Online prefers action 1 in state 0, and action 2 in state 1.
C51_ONLINE = logits([
    [[0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]],
    [[0.8, 0.1, 0.1], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]],
])  # fmt: skip


@pytest.mark.parametrize(("rule", "given", "probs"), [
    (q_learning, {}, [[0.2, 0.2, 0.6], [0.05, 0.05, 0.9]]),
    (q_learning, {"masks": [FIRST_TWO, LAST_TWO, ALL, ALL]}, [[0.25, 0.5, 0.25], [0.3, 0.4, 0.3]]),
    (double_q_learning, {}, [[0.25, 0.5, 0.25], [0.3, 0.4, 0.3]]),
    (double_q_learning, {"masks": [OUTER, FIRST_TWO, ALL, ALL]}, [[0.2, 0.2, 0.6], [0.05, 0.05, 0.9]]),
    (sarsa, {"next_action": [0, -1, 2, 1]}, [[0.6, 0.3, 0.1], [0.05, 0.05, 0.9]]),
])  # fmt: skip
def test_a_rule_by_hand_with_a_distribution(rule, given, probs):
    online, target = (table_network(t, "c51", num_bins=3) for t in (C51_ONLINE, C51_TARGET))
    goal = rule(online, target, transitions(**given), None)
    expected = torch.tensor([[1.0, 1.5, 2.0], [2.0, 2.9, 3.8], [3.0, 3.0, 3.0], [4.0, 4.25, 4.5]])
    torch.testing.assert_close(goal.values, expected, rtol=1e-6, atol=0)
    # A softmax of logarithms in float32.
    torch.testing.assert_close(goal.probs[:2], torch.tensor(probs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", TARGET_RULES)
def test_a_terminal_transition_is_worth_its_reward(rule):
    """And in Munchausen its log-policy, which `scale` takes away."""
    online, target = table_network(ONLINE), table_network(TARGET)
    batch = transitions(next_action=[0, 1, 2, 0], discount=(0.0, 0.0, 0.0, 0.0))
    options = {"scale": 0.0} if rule == "munchausen" else {}
    assert TARGET_RULES[rule](online, target, batch, None, **options).mean().tolist() == batch.reward.tolist()


def test_sarsa_needs_the_next_action():
    with pytest.raises(ValueError, match="'sarsa' needs batches with next_action"):
        sarsa(table_network(ONLINE), table_network(TARGET), transitions(), None)


def test_draws_go_to_the_target_and_not_to_the_choice_of_an_action():
    """IQN: sampled fractions form the target, while double-Q's action comes from the midpoints, as acting does."""
    torch.manual_seed(0)
    online, target = (small_network("iqn") for _ in range(2))
    batch = transitions(next_action=[0, 1, 2, 0])
    draws = {"taus": torch.rand(4, 5, generator=torch.Generator().manual_seed(1))}
    action = online(batch.next_obs).mean().argmax(-1)
    quantiles = target(batch.next_obs, draws).outputs[torch.arange(4), action]
    goal = double_q_learning(online, target, batch, draws)
    assert torch.equal(goal.values, batch.reward[:, None] + batch.discount[:, None] * quantiles)
    assert goal.values.shape == (4, 5)


def test_greedy_never_takes_what_is_illegal():
    q = torch.tensor([[1.0, 9.0, 3.0], [-5.0, -1.0, -7.0]])
    assert greedy(q).tolist() == [1, 1]
    assert greedy(q, torch.tensor([OUTER, OUTER])).tolist() == [2, 0]


def small_network(name, obs_shape=(2,)):
    torso = MLP(obs_shape, hidden=(6,))
    return QNetwork(torso, make_head(name, in_features=6, num_actions=3, support=(-4, 4), **TINY.get(name, {})))


def test_importance_weights_multiply_losses():
    online, target = table_network(ONLINE), table_network(TARGET)
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0])
    update = TDLoss(online, target, q_learning)(transitions()._replace(weight=weight))
    squares = [(4 - 16) ** 2, (0 - 1.1) ** 2, (3 - 3) ** 2, (4 - 3.75) ** 2]
    assert update.losses.tolist() == pytest.approx(squares, rel=1e-6)
    assert update.loss.item() == pytest.approx((squares[0] + squares[1] / 2 + squares[3] * 2) / 4, rel=1e-6)


def test_losses_and_weights_must_have_one_shape():
    batch = transitions()._replace(weight=torch.ones(4, 1))
    with pytest.raises(ValueError, match=r"losses \(4,\) do not match weights \(4, 1\)"):
        TDLoss(table_network(ONLINE), table_network(TARGET), q_learning)(batch)


def test_a_batch_moves_with_what_it_has():
    batch = transitions(masks=SOME).to(torch.device("meta"))
    assert batch.next_action is None
    assert all(t.device.type == "meta" for t in batch if t is not None)

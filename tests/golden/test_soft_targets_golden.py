"""Expected SARSA and Munchausen against loops in float64 over the raw outputs of the networks.

Dimensions: B transitions, A actions, K atoms. An oracle gives the target of one transition as [(value, mass)].
"""

import functools
import math

import pytest
import torch

from agents.learning.batch import Batch
from agents.learning.targets import expected_sarsa, munchausen, q_learning
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

B, A, SUPPORT, NUM_BINS = 6, 3, (-3.0, 5.0), 5
CENTERS = [SUPPORT[0] + i * (SUPPORT[1] - SUPPORT[0]) / (NUM_BINS - 1) for i in range(NUM_BINS)]
HEADS_BY_KIND = {
    "mse": ("scalar", {}),
    "two_hot": ("mean", {"num_bins": NUM_BINS}),
    "c51": ("mixture", {"num_bins": NUM_BINS}),
    "quantile": ("quantiles", {"num_quantiles": 4}),
    "iqn": ("quantiles", {"num_taus": 3, "num_target_taus": 5, "num_acting_taus": 4, "num_cosines": 4}),
}
every_head = pytest.mark.parametrize("head", HEADS_BY_KIND)
masked = pytest.mark.parametrize("masks", [False, True])
LEGAL = [[True, True, False], [False, True, True], [True, True, True], [True, False, False]] * 2

# float32 sums of at most 15 products of numbers below 10.
CLOSE = {"rel": 2e-5, "abs": 2e-5}


def network(head, seed, size=1.0, **options):
    torch.manual_seed(seed)
    net = QNetwork(MLP((4,), hidden=(6,)), make_head(head, in_features=6, num_actions=A, support=SUPPORT, **options))
    with torch.no_grad():
        for parameter in net.head.output.parameters():
            parameter.mul_(size)
    return net.requires_grad_(False)


def make_batch(masks):
    g = torch.Generator().manual_seed(3)
    mask = torch.tensor(LEGAL)
    return Batch(
        obs=torch.randn(B, 4, generator=g),
        action=torch.tensor([0, 1, 1, 0, 1, 2]),
        reward=torch.randn(B, generator=g),
        discount=torch.tensor([0.9, 0.9, 0.0, 0.729, 0.9, 0.9]),
        next_obs=torch.randn(B, 4, generator=g),
        weight=torch.ones(B),
        next_mask=mask[2:] if masks else None,
        mask=mask[:B] if masks else None,
    )


def distributions(kind, outputs):
    """[A][K] pairs (value, mass) of one state, from raw outputs [A, D]."""
    if kind in ("scalar", "quantiles"):
        return [[(y, 1 / len(row)) for y in row] for row in outputs]
    found = []
    for row in outputs:
        masses = [math.exp(x - max(row)) for x in row]
        found.append([(z, p / sum(masses)) for z, p in zip(CENTERS, masses, strict=True)])
    return found


def mean(pairs):
    return sum(value * mass for value, mass in pairs)


def soft(q_values, legal, temperature):
    """pi and temperature * log pi of the legal actions, by the definition with the largest value taken out."""
    top = max(q for q, ok in zip(q_values, legal, strict=True) if ok)
    masses = [math.exp((q - top) / temperature) if ok else 0.0 for q, ok in zip(q_values, legal, strict=True)]
    log_total = math.log(sum(masses))
    logs = [q - top - temperature * log_total if ok else 0.0 for q, ok in zip(q_values, legal, strict=True)]
    return [m / sum(masses) for m in masses], logs


def backed_up(kind, per_action, policy, offset, reward, discount, *, average):
    """Atoms of r + discount * (soft value): one mean, a mixture, or quantile functions averaged at each fraction."""
    if kind in ("scalar", "mean"):
        value = sum(p * (mean(atoms) + o) for p, atoms, o in zip(policy, per_action, offset, strict=True))
        return [(reward + discount * value, 1.0)]
    if kind == "quantiles" and average:
        n = len(per_action[0])
        values = [sum(p * (z[i][0] + o) for p, z, o in zip(policy, per_action, offset, strict=True)) for i in range(n)]
        return [(reward + discount * value, 1 / n) for value in values]
    return [
        (reward + discount * (value + o), p * mass)
        for p, atoms, o in zip(policy, per_action, offset, strict=True)
        for value, mass in atoms
    ]


def rows(batch, masks):
    for b in range(B):
        legal, next_legal = (LEGAL[b], LEGAL[b + 2]) if masks else ([True] * A, [True] * A)
        yield b, batch.reward[b].item(), batch.discount[b].item(), batch.action[b].item(), legal, next_legal


def check(goal, expected):
    assert goal.values.shape == goal.probs.shape == (B, len(expected[0]))
    for b, pairs in enumerate(expected):
        assert goal.probs[b].tolist() == pytest.approx([mass for _, mass in pairs], **CLOSE)
        wanted, got = ([v for v, (_, m) in zip(vs, pairs, strict=True) if m > 0] for vs in (
            [v for v, _ in pairs], goal.values[b].tolist()
        ))  # fmt: skip
        assert got == pytest.approx(wanted, **CLOSE)
        assert goal.mean()[b].item() == pytest.approx(mean(pairs), **CLOSE)


@every_head
@masked
@pytest.mark.parametrize("options", [
    {"temperature": 0.5, "clip": -10.0},
    {"temperature": 0.5, "clip": -0.55, "scale": 0.7},  # the clipping bites in some rows
    {"temperature": 0.5, "policy": "online"},
    {},
])  # fmt: skip
def test_munchausen(head, masks, options):
    kind, head_options = HEADS_BY_KIND[head]
    online, target = (network(head, seed, 4.0, **head_options) for seed in (0, 1))
    batch = make_batch(masks)
    draws = target.head.draw(B, torch.Generator().manual_seed(0), bootstrap=True) or None
    goal = munchausen(online, target, batch, draws, **options)

    temperature, scale, clip = options.get("temperature", 0.03), options.get("scale", 0.9), options.get("clip", -1.0)
    here = (online if options.get("policy") == "online" else target)(batch.obs).outputs.double().tolist()
    there = target(batch.next_obs, draws).outputs.double().tolist()
    expected, clipped = [], []
    for b, reward, discount, action, legal, next_legal in rows(batch, masks):
        _, log_policy = soft([mean(z) for z in distributions(kind, here[b])], legal, temperature)
        per_action = distributions(kind, there[b])
        policy, next_log_policy = soft([mean(z) for z in per_action], next_legal, temperature)
        bonus = scale * min(max(log_policy[action], clip), 0.0)
        clipped.append(log_policy[action] < clip)
        minus = [-x for x in next_log_policy]
        expected.append(backed_up(kind, per_action, policy, minus, reward + bonus, discount, average=True))
    check(goal, expected)
    assert options.get("clip") != -0.55 or (any(clipped) and not all(clipped)), (
        f"both sides of the clipping are tested: {clipped}"
    )


@every_head
@masked
@pytest.mark.parametrize("options", [{}, {"epsilon": 0.3}, {"epsilon": 0.2, "temperature": 0.7}])
def test_expected_sarsa(head, masks, options):
    kind, head_options = HEADS_BY_KIND[head]
    online, target = (network(head, seed, 4.0, **head_options) for seed in (0, 1))
    batch = make_batch(masks)
    draws = target.head.draw(B, torch.Generator().manual_seed(0), bootstrap=True) or None
    goal = expected_sarsa(online, target, batch, draws, **options)

    epsilon, temperature = options.get("epsilon", 0.05), options.get("temperature")
    there = target(batch.next_obs, draws).outputs.double().tolist()
    expected = []
    for b, reward, discount, _, _, next_legal in rows(batch, masks):
        per_action = distributions(kind, there[b])
        q_values = [mean(z) for z in per_action]
        if temperature is None:
            best = max((a for a in range(A) if next_legal[a]), key=lambda a: q_values[a])
            policy = [float(a == best) for a in range(A)]
        else:
            policy, _ = soft(q_values, next_legal, temperature)
        policy = [
            (1 - epsilon) * p + (epsilon / sum(next_legal) if ok else 0.0)
            for p, ok in zip(policy, next_legal, strict=True)
        ]
        expected.append(backed_up(kind, per_action, policy, [0.0] * A, reward, discount, average=False))
    check(goal, expected)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", [expected_sarsa, munchausen])
def test_every_head_has_the_mean_of_the_scalar_target(head, rule):
    """What heads bootstrap differs; what it is worth does not: the rule on Q alone, for every head."""
    online, target = (network(head, seed) for seed in (0, 1))
    batch = make_batch(masks=True)
    goal = rule(online, target, batch, None)
    q_values, next_q_values = (target(obs).mean().double().tolist() for obs in (batch.obs, batch.next_obs))
    for b, reward, discount, action, legal, next_legal in rows(batch, masks=True):
        if rule is munchausen:
            reward += 0.9 * max(soft(q_values[b], legal, 0.03)[1][action], -1.0)
            policy, logs = soft(next_q_values[b], next_legal, 0.03)
        else:
            best = max((a for a in range(A) if next_legal[a]), key=lambda a: next_q_values[b][a])
            policy = [0.95 * (a == best) + 0.05 * next_legal[a] / sum(next_legal) for a in range(A)]
            logs = [0.0] * A
        value = sum(p * (q - log) for p, q, log in zip(policy, next_q_values[b], logs, strict=True))
        assert goal.mean()[b].item() == pytest.approx(reward + discount * value, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", [
    functools.partial(munchausen, scale=0.0, temperature=1e-5),
    functools.partial(expected_sarsa, epsilon=0.0),
    functools.partial(expected_sarsa, epsilon=0.0, temperature=1e-5),
], ids=["munchausen", "greedy", "softmax"])  # fmt: skip
@masked
def test_the_limit_is_q_learning(head, rule, masks):
    online, target = (network(head, seed, 4.0) for seed in (0, 1))
    batch = make_batch(masks)
    next_q_values = target(batch.next_obs).mean()
    if masks:
        next_q_values = next_q_values.masked_fill(~batch.next_mask, -torch.inf)
    best, second = next_q_values.topk(2).values.unbind(-1)
    assert ((best - second) > 1e-3).all(), "a hundred temperatures: the other actions have mass e^-100"
    expected, got = q_learning(online, target, batch, None), rule(online, target, batch, None)
    torch.testing.assert_close(got.mean(), expected.mean(), rtol=1e-5, atol=1e-5)
    prediction = online(batch.obs).select(batch.action)
    torch.testing.assert_close(prediction.loss(got), prediction.loss(expected), rtol=1e-4, atol=1e-4)


@every_head
def test_the_bonus_of_a_uniform_policy_is_its_entropy(head):
    """temperature * log(legal actions) for what follows, and minus scale times as much for the action taken."""
    head_options = HEADS_BY_KIND[head][1]
    online, target = (network(head, seed, 0.0, **head_options) for seed in (0, 1))
    batch = make_batch(masks=True)
    value = target(batch.next_obs).mean()[:, 0]
    goal = munchausen(online, target, batch, None, temperature=0.2, scale=0.5, clip=-9.0)
    entropy, next_entropy = (0.2 * mask.sum(-1).float().log() for mask in (batch.mask, batch.next_mask))
    expected = batch.reward - 0.5 * entropy + batch.discount * (value + next_entropy)
    torch.testing.assert_close(goal.mean(), expected, rtol=1e-5, atol=1e-5)


def test_huge_values_and_small_temperatures_are_exact():
    """A gap of 1/64 at a value of 1000: q / temperature in float32 would be off by a tenth of the gap."""
    online, target = (network("mse", 0, 0.0) for _ in range(2))
    with torch.no_grad():
        target.head.output.last.bias.copy_(torch.tensor([1000.0, 1000.0 - 1 / 64, -1e6]))
    batch = make_batch(masks=False)
    goal = munchausen(online, target, batch, None, temperature=0.003, scale=1.0, clip=-1e9)
    _, log_policy = soft([1000.0, 1000.0 - 1 / 64, -1e6], [True] * A, 0.003)
    bonus = torch.tensor(log_policy)[batch.action]
    terminal = 2
    assert goal.values[terminal].item() == pytest.approx(
        batch.reward[terminal].item() + bonus[terminal].item(), rel=1e-6
    )
    assert goal.values[5].item() == pytest.approx(-1e6 - 100, rel=1e-4), "finite, and not 0 times infinity"


@pytest.mark.parametrize(("rule", "options", "message"), [
    (expected_sarsa, {"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
    (expected_sarsa, {"temperature": 0.0}, "temperature must be positive, got 0.0"),
    (munchausen, {"temperature": -1.0}, "temperature must be positive, got -1.0"),
    (munchausen, {"clip": 1.0}, "clip must not be above 0 .* got 1.0"),
    (munchausen, {"policy": "best"}, "policy 'target' or 'online', got .* 'best'"),
])  # fmt: skip
def test_options_out_of_range(rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(network("mse", 0), network("mse", 1), make_batch(masks=False), None, **options)

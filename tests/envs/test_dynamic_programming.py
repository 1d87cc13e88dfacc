"""Are the values that studies are measured against the true ones? Closed forms, Monte-Carlo play, and the simulator."""

import numpy as np
import pytest

from envs.dynamic_programming import optimal_q, policy_values, regret
from envs.toy import Catch, Chain


def play(env, policy, gamma, episodes, seed=0):
    """Discounted returns of a policy [S, A] that is told the state by its observation."""
    model = env.transition_model()
    number = {obs.tobytes(): state for state, obs in enumerate(model.obs[~model.terminal])}
    rng, returns = np.random.default_rng(seed), []
    obs, _ = env.reset(seed=seed)
    for _ in range(episodes):
        total, discount, over = 0.0, 1.0, False
        while not over:
            action = int(rng.choice(len(policy[0]), p=policy[number[obs.tobytes()]]))
            obs, reward, over, _, _ = env.step(action)
            total += discount * reward
            discount *= gamma
        returns.append(total)
        obs, _ = env.reset()
    return np.array(returns)


def test_catch_in_closed_form():
    """Caught where the paddle can still get there: worth gamma**(moves - 1), and minus that elsewhere."""
    gamma, env = 0.9, Catch()
    q = optimal_q(env.transition_model(), gamma)
    places = [(r, c, p) for r in range(9) for c in range(5) for p in range(5)]
    for state, (row, column, paddle) in enumerate(places):
        for action in range(3):
            after, moves = min(max(paddle + action - 1, 0), 4), 9 - row
            caught = abs(column - after) <= moves - 1
            assert q[state, action] == pytest.approx((1 if caught else -1) * gamma ** (moves - 1), abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"slip": 0.3}, {"slip": 0.3, "reward_noise": 0.5}])
def test_catch_follows_its_model(options):
    env = Catch(**options)
    model = env.transition_model()
    np.testing.assert_allclose(model.probs.sum(-1), 1, atol=1e-15)
    assert model.start.sum() == pytest.approx(1)
    number = {obs.tobytes(): state for state, obs in enumerate(model.obs[~model.terminal])}
    assert len(number) == len(model.probs) == 225
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    starts, surprise, rewards, moves = np.zeros(225), [], [], np.zeros((3, 3))
    for _ in range(3_000):
        state, over = number[obs.tobytes()], False
        starts[state] += 1
        while not over:
            action = int(rng.integers(3))
            obs, reward, over, _, _ = env.step(action)
            caught = obs[-1].sum() == 1  # where the ball is on the paddle there is one cell less
            successor = 225 + caught if over else number[obs.tobytes()]
            assert model.probs[state, action, successor] > 0
            assert abs(reward - model.reward[state, action, successor]) <= env.reward_noise
            paddle, after = state % 5, successor % 5
            if not over and 1 <= paddle <= 3:  # not at a wall
                moves[action, after - paddle + 1] += 1
            surprise.append(reward - model.reward[state, action, successor])
            rewards.append(reward)
            state = successor
        obs, _ = env.reset()
    # five standard errors
    tried, slip = moves.sum(1, keepdims=True), env.slip
    wanted = (1 - slip) * np.eye(3) + slip / 3
    assert (np.abs(moves / tried - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / tried)).all()
    interior = model.probs[2, :, 25 + 1 : 25 + 4]  # the ball in the first row and column, the paddle in the middle
    np.testing.assert_allclose(interior, wanted)
    assert abs(np.mean(surprise)) < 5 * np.std(surprise) / len(surprise) ** 0.5 + 1e-12
    np.testing.assert_allclose(starts / 3_000, model.start, atol=5 * (0.2 * 0.8 / 3_000) ** 0.5)
    low, high = env.return_range
    assert low <= min(rewards)
    assert max(rewards) <= high


WORLDS = {
    "catch": Catch(slip=0.2, reward_noise=0.5),
    "chain": Chain(length=5, slip=0.2, reward_noise=0.5),
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("kind", ["best", "random"])
def test_values_are_those_of_play(name, kind):
    env, gamma = WORLDS[name], 0.9
    model = env.transition_model()
    best = optimal_q(model, gamma)
    policy = np.eye(best.shape[1])[best.argmax(-1)] if kind == "best" else np.full(best.shape, 1 / best.shape[1])
    values = policy_values(model, policy, gamma)
    if kind == "best":
        np.testing.assert_allclose(values, best.max(-1), atol=1e-11)
    returns = play(env, policy, gamma, 1_500)
    assert abs(returns.mean() - model.start @ values) < 4 * returns.std() / len(returns) ** 0.5


def test_regret_by_hand():
    """In a chain without slips, always left pays -0.1 on the way and -1 at the end; always right the opposite."""
    env, gamma = Chain(length=2, slip=0.0), 0.5
    left, model = np.array([[1.0, 0.0]] * 2), env.transition_model()
    best = np.mean([0.1 + 0.5 * 1.0, 1.0])
    worst = np.mean([-1.0, -0.1 + 0.5 * -1.0])
    assert regret(model, left, gamma) == pytest.approx(best - worst)
    assert regret(model, env.optimal_q(gamma), gamma) == pytest.approx(0, abs=1e-12)


def test_noise_changes_no_value_and_no_transition():
    quiet, noisy = Chain(slip=0.2), Chain(slip=0.2, reward_noise=1.0)
    np.testing.assert_array_equal(quiet.optimal_q(0.9), noisy.optimal_q(0.9))
    quiet, noisy = Catch(), Catch(reward_noise=1.0)
    for env in (quiet, noisy):
        env.reset(seed=3)
    for action in (0, 1, 2, 2, 1):
        plain, with_noise = quiet.step(action), noisy.step(action)
        np.testing.assert_array_equal(plain[0], with_noise[0])
        assert plain[1] != with_noise[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Catch(slip=1.1), "slip is 1.1, wanted 0 <= slip <= 1"),
        (lambda: Catch(reward_noise=-1.0), "reward_noise is -1.0, wanted at least 0"),
        (lambda: Chain(reward_noise=-1.0), "reward_noise is -1.0"),
        (lambda: optimal_q(Chain().transition_model(), 1.5), "gamma is 1.5"),
        (lambda: policy_values(Chain().transition_model(), np.ones((5, 3)), 0.9), r"policy \(5, 3\) is not \[S, A\]"),
        (lambda: policy_values(Chain().transition_model(), np.ones((5, 2)), -0.5), "gamma is -0.5"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

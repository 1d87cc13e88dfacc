"""Are the answers that the toy worlds claim to know the right ones?"""

import itertools

import numpy as np
import pytest

from envs import ENVS, make_env, make_vector
from envs.deep_sea import DeepSea
from envs.doors import Doors
from envs.toy import Catch, Chain, Identity, Recall


@pytest.mark.parametrize("name", ENVS)
def test_observations_lie_in_their_space_and_returns_in_their_range(name):
    env = make_env(name)
    low, high = env.return_range
    env.action_space.seed(0)
    for seed in range(200):
        obs, info = env.reset(seed=seed)
        rewards, over = [], False
        while not over:
            assert env.observation_space.contains(obs)
            mask = info.get("action_mask")
            action = env.action_space.sample(None if mask is None else mask.astype(np.int8))
            obs, reward, over, truncated, info = env.step(action)
            assert not truncated
            rewards.append(reward)
        assert env.observation_space.contains(obs)
        for gamma in (0.5, 0.9, 1.0):
            for start in range(len(rewards)):
                discounted = sum(gamma**k * reward for k, reward in enumerate(rewards[start:]))
                assert low - 1e-12 <= discounted <= high + 1e-12


@pytest.mark.parametrize("name", ENVS)
def test_pictures(name):
    env = make_env(name, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert (picture.dtype, picture.shape[-1], picture.max()) == (np.uint8, 3, 255)
    assert make_env(name).render() is None


def test_unknown_render_mode():
    with pytest.raises(ValueError, match="render_mode is 'human', wanted 'rgb_array' or None"):
        Catch(render_mode="human")


# Catch


def test_going_under_the_ball_always_catches_it():
    venv = make_vector("catch", num_envs=50)
    obs = venv.reset()
    balls = obs[:, 0].argmax(axis=1)
    assert set(balls) == set(range(5))
    for row in range(1, 10):
        ball = obs[:, row - 1].argmax(axis=1)
        paddle = obs[:, -1].argmax(axis=1)
        step = venv.step(1 + np.sign(ball - paddle))
        obs = step.next_obs
        assert step.terminated.all() == (row == 9)
        np.testing.assert_array_equal(step.reward, np.full(50, float(row == 9)))
    assert (obs[:, -1].argmax(axis=1) == balls).all()
    assert (obs.sum(axis=(1, 2)) == 1).all()


def test_the_paddle_moves_and_stops_at_the_walls():
    env = Catch()
    obs, _ = env.reset(seed=0)
    columns = [int(obs[-1].argmax())]
    for action in (0, 0, 0, 1, 2, 2, 2, 2):
        obs, *_ = env.step(action)
        columns.append(int(obs[-1].argmax()))
    assert columns == [2, 1, 0, 0, 0, 1, 2, 3, 4]


def test_a_missed_ball_costs_one():
    env = Catch()
    obs, _ = env.reset(seed=0)
    away = 0 if obs[0].argmax() >= 2 else 2
    rewards = [env.step(away)[1] for _ in range(9)]
    assert rewards == [0.0] * 8 + [-1.0]


# Doors


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_what_doors_are_worth_by_trying_every_way(length, gamma):
    """No way through is left out, each walked in the environment itself."""
    best = np.full((length, 4), -np.inf)
    for start in range(length):
        for way in itertools.product(range(4), repeat=length - start):
            env, value = Doors(length), 0.0
            env.reset(seed=0)
            env._room = start
            try:
                for t, action in enumerate(way):
                    _, reward, over, _, _ = env.step(action)
                    value += gamma**t * reward
            except ValueError:
                continue
            assert over
            best[start, way[0]] = max(best[start, way[0]], value)
    np.testing.assert_allclose(Doors(length).optimal_q(gamma), best, rtol=1e-12)
    assert (np.isfinite(best) == [Doors(length).open_in(room) for room in range(length)]).all()
    assert np.nanmax(best) <= -1, "so that a network that knows nothing is too hopeful"


def test_what_is_locked_says_so():
    env = Doors()
    env.reset(seed=0)
    env._room = 2
    for action in (2, 3):
        with pytest.raises(ValueError, match=f"action {action} is locked in room 2"):
            env.step(action)
    with pytest.raises(ValueError, match="length is 0, wanted at least 1"):
        Doors(length=0)


# Chain


@pytest.mark.parametrize("slip", [0.0, 0.1, 0.4])
def test_the_model_is_a_model(slip):
    model = Chain(length=4, slip=slip).transition_model()
    np.testing.assert_allclose(model.probs.sum(axis=-1), 1.0, rtol=0, atol=1e-15)
    assert model.terminal.tolist() == [False] * 4 + [True]
    assert model.probs.shape == model.reward.shape == (4, 2, 5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("options", [{}, {"length": 2, "slip": 0.3}, {"length": 9, "slip": 0.0}])
def test_optimal_q_solves_the_equations_of_the_best_policy(options, gamma):
    # independent of value iteration: solve the linear equations of every policy in turn until none is better
    env = Chain(**options)
    model = env.transition_model()
    states = np.arange(env.length)
    policy = np.zeros(env.length, int)
    while True:
        probs, reward = model.probs[states, policy], model.reward[states, policy]
        mean_reward = (probs * reward).sum(axis=-1)
        values = np.linalg.solve(np.eye(env.length) - gamma * probs[:, :-1], mean_reward)
        successor_values = np.append(values, 0.0)
        q = np.einsum("sap,sap->sa", model.probs, model.reward + gamma * successor_values)
        better = q.argmax(axis=1)
        if (better == policy).all():
            break
        policy = better
    # value iteration stops at a change of 1e-13, which bounds its error by 1e-13 / (1 - gamma)
    np.testing.assert_allclose(env.optimal_q(gamma), q, rtol=0, atol=2e-13 / (1 - gamma))
    low, high = env.return_range
    assert low <= q.min()
    assert q.max() <= high


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
def test_optimal_q_without_slips_in_closed_form(gamma):
    env = Chain(length=6, slip=0.0)
    moves = 5 - np.arange(6)
    values = 0.1 * (1 - gamma**moves) / (1 - gamma) + gamma**moves
    left = np.append(-1.0, -0.1 + gamma * values[:-1])
    np.testing.assert_allclose(env.optimal_q(gamma), np.stack([left, values], axis=1), rtol=0, atol=1e-11)


def test_optimal_q_undiscounted():
    # without slips every step to the right pays 0.1 and the exit 1
    np.testing.assert_allclose(Chain(length=3, slip=0.0).optimal_q(1.0)[:, 1], [1.2, 1.1, 1.0], atol=1e-12)


def test_the_simulator_follows_the_model():
    env = Chain(slip=0.2)
    model = env.transition_model()
    counts = np.zeros_like(model.probs)
    starts = np.zeros(env.length)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(4000):
        obs, _ = env.reset()
        starts[obs.argmax()] += 1
        over = False
        while not over:
            state, action = int(obs.argmax()), int(rng.integers(2))
            obs, reward, over, _, _ = env.step(action)
            successor = env.length if over else int(obs.argmax())
            assert reward == model.reward[state, action, successor]
            assert obs.sum() == (0.0 if over else 1.0)
            counts[state, action, successor] += 1
    visits = counts.sum(axis=-1, keepdims=True)
    assert visits.min() > 1000
    # five standard deviations of a frequency: sqrt(p (1 - p) / n)
    tolerance = 5 * np.sqrt(model.probs * (1 - model.probs) / visits)
    assert (np.abs(counts / visits - model.probs) <= tolerance).all()
    assert (np.abs(starts / 4000 - 0.2) <= 5 * np.sqrt(0.2 * 0.8 / 4000)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "length is 1, wanted at least 2"),
        ({"slip": 0.5}, r"slip is 0.5, wanted 0 <= slip < 0.5"),
        ({"slip": -0.1}, "slip is -0.1"),
    ],
)
def test_options_of_chain_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Chain(**options)


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_gamma_is_checked(gamma):
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        Chain().optimal_q(gamma)


# Identity


@pytest.mark.parametrize("num_actions", [2, 4, 7])
def test_only_the_matching_action_pays(num_actions):
    env = Identity(num_actions)
    shown = set()
    for seed in range(20 * num_actions):
        for action in range(num_actions):
            obs, _ = env.reset(seed=seed)
            shown.add(int(obs.argmax()))
            final_obs, reward, terminated, truncated, _ = env.step(action)
            assert (reward, terminated, truncated) == (float(obs[action] == 1), True, False)
            assert not final_obs.any()
    assert shown == set(range(num_actions))


def test_identity_needs_two_actions():
    with pytest.raises(ValueError, match="num_actions is 1, wanted at least 2"):
        Identity(num_actions=1)


# Recall


@pytest.mark.parametrize(("num_cues", "length"), [(4, 10), (2, 2), (3, 5)])
def test_recall_shows_the_cue_once_and_asks_for_it_at_the_end(num_cues, length):
    env, cues = Recall(num_cues, length), set()
    for seed in range(40):
        obs, _ = env.reset(seed=seed)
        cue = int(obs.argmax())
        cues.add(cue)
        np.testing.assert_array_equal(obs, np.eye(num_cues + 1)[cue])
        answer = cue if seed % 2 else (cue + 1) % num_cues
        for t in range(1, length + 1):
            obs, reward, over, cut, _ = env.step(answer if t == length else seed % num_cues)
            np.testing.assert_array_equal(obs, np.eye(num_cues + 1)[-1] * (t == length - 1))
            assert (over, cut) == (t == length, False)
            assert reward == (0 if t < length else 1 if seed % 2 else -1)
    assert cues == set(range(num_cues))


def test_without_a_memory_recall_is_chance():
    """The observation of the question is the same for all cues, so an answer is right for one of them only."""
    env = Recall(num_cues=4)
    for answer in range(4):
        returns = []
        for seed in range(400):
            env.reset(seed=seed)
            for _ in range(10):
                _, reward, *_ = env.step(answer)
            returns.append(reward)
        assert np.mean(returns) == pytest.approx(2 / 4 - 1, abs=0.15)  # deviation of such a mean 0.043


@pytest.mark.parametrize(("num_cues", "length"), [(1, 5), (3, 1)])
def test_recall_refuses(num_cues, length):
    with pytest.raises(ValueError, match=f"num_cues is {num_cues} and length is {length}, wanted at least 2 each"):
        Recall(num_cues, length)


# Deep Sea


def dive(env, columns):
    """The rewards of a dive that goes right where `columns` says so; the diver is where it has to be."""
    obs, _ = env.reset()
    rewards, column = [], 0
    for row, right in enumerate(columns):
        assert (obs[row, column], obs.sum()) == (1.0, 1.0)
        action = env.right[row, column] if right else 1 - env.right[row, column]
        obs, reward, over, truncated, _ = env.step(action)
        rewards.append(reward)
        column = min(column + 1, env.size - 1) if right else max(column - 1, 0)
        assert (over, truncated) == (row == env.size - 1, False)
    assert not obs.any()
    return rewards


def test_one_way_in_two_to_the_size_leads_to_the_treasure():
    env = DeepSea(size=5, mapping_seed=3)
    returns = {ways: sum(dive(env, ways)) for ways in np.ndindex((2,) * 5)}
    for ways, total in returns.items():
        assert total == pytest.approx(float(sum(ways) == 5) - 0.01 * sum(ways) / 5)
    assert max(returns.values()) == pytest.approx(0.99)


def test_the_treasure_lies_behind_the_last_step():
    assert dive(DeepSea(size=4), [1, 1, 1, 1]) == pytest.approx([-0.0025] * 3 + [1 - 0.0025])


def test_which_action_goes_right_is_a_matter_of_the_seed_and_the_cell():
    first, same, other = (DeepSea(size=20, mapping_seed=seed).right for seed in (1, 1, 2))
    assert (first == same).all()
    for a, b in ((first, other), (first, 1 - first.T)):
        assert 0.4 < (a == b).mean() < 0.6
    assert 0.4 < first.mean() < 0.6


def test_a_sea_of_one_cell_is_refused():
    with pytest.raises(ValueError, match="size is 1, wanted at least 2"):
        DeepSea(size=1)

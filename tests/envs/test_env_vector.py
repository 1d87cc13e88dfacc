"""Are the data that a vector hands out what really happened?"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import GymnasiumVector, episode_seed, make_env, make_vector
from envs.toy import Catch

WORLDS = Path(__file__).with_name("worlds.py")


def world(name, **options):
    return make_vector(f"{WORLDS}:{name}", **options)


def play(venv, steps, seed=0):
    """Every array handed out in `steps` random steps."""
    rng = np.random.default_rng(seed)
    trace = [venv.reset()]
    for _ in range(steps):
        step = venv.step(rng.integers(venv.num_actions, size=64)[: venv.num_envs])
        trace += [*step[:4], venv.reset_done(step.done)]
    return trace


@pytest.mark.parametrize("reuse_buffer", [False, True])
def test_every_transition_is_the_true_one(reuse_buffer):
    venv = world("Counter", num_envs=3, kwargs={"reuse_buffer": reuse_buffer})
    rng = np.random.default_rng(0)
    obs = venv.reset()
    episode, t = 0, 0
    for _ in range(200):
        np.testing.assert_array_equal(obs[:, :2], [[episode, t]] * 3)
        action = rng.integers(7, size=3)
        step = venv.step(action)
        t += 1
        over = t == 3 + episode % 3
        np.testing.assert_array_equal(step.next_obs, [[episode, t, a] for a in action])
        np.testing.assert_array_equal(step.reward, [100 * episode + t] * 3)
        np.testing.assert_array_equal(step.terminated, [over and episode % 2 == 0] * 3)
        np.testing.assert_array_equal(step.truncated, [over and episode % 2 == 1] * 3)
        assert not step.life_lost.any()
        obs = venv.reset_done(step.done)
        if over:
            episode, t = episode + 1, 0
        else:
            np.testing.assert_array_equal(obs, step.next_obs)
    assert episode > 10


def test_types_of_a_step():
    venv = world("Noisy", num_envs=2)
    obs = venv.reset()
    step = venv.step(np.array([0, 1], np.int32))
    assert obs.dtype == step.next_obs.dtype == step.reward.dtype == np.float32
    assert step.terminated.dtype == step.truncated.dtype == np.bool_
    assert obs.shape == step.next_obs.shape == (2, 4)
    assert step.reward.shape == step.terminated.shape == step.truncated.shape == (2,)


def test_environments_end_independently_and_only_those_are_reset():
    venv = world("Noisy", num_envs=8, kwargs={"end_probability": 0.2})
    venv.reset()
    some = 0
    for _ in range(100):
        step = venv.step(np.zeros(8, int))
        done = step.done
        obs = venv.reset_done(done)
        np.testing.assert_array_equal(obs[~done], step.next_obs[~done])
        assert (obs[done] != step.next_obs[done]).any(axis=1).all()
        some += 0 < done.sum() < 8
    assert some > 50


def test_a_running_episode_may_be_cut():
    venv = world("Counter", num_envs=2)
    venv.reset()
    venv.step(np.array([1, 1]))
    obs = venv.reset_done(np.array([True, False]))
    np.testing.assert_array_equal(obs, [[1, 0, -1], [0, 1, 1]])


@pytest.mark.parametrize("num_envs", [2, 5])
def test_an_environment_sees_the_same_whatever_the_number_of_environments(num_envs):
    few = play(world("Noisy", num_envs=1, seed=3), 100)
    many = play(world("Noisy", num_envs=num_envs, seed=3), 100)
    for one, several in zip(few, many, strict=True):
        np.testing.assert_array_equal(one[0], several[0])
    assert not np.array_equal(many[0][0], many[0][1])


def test_seeds_decide():
    first, again, other = (play(world("Noisy", num_envs=2, seed=seed), 50) for seed in (7, 7, 8))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not set(map(float, first[0].flat)) & set(map(float, other[0].flat))


def test_every_episode_has_its_own_seed():
    venv = world("Noisy", num_envs=2, seed=5)
    single = make_env(f"{WORLDS}:Noisy")
    obs = venv.reset()
    for episode in range(4):
        for index in range(2):
            wanted, _ = single.reset(seed=episode_seed(5, index, episode))
            np.testing.assert_array_equal(obs[index], wanted.astype(np.float32))
        obs = venv.reset_done(np.array([True, True]))


def test_reset_starts_again_at_episode_0():
    venv = world("Noisy", num_envs=2)
    first = play(venv, 50)
    again = play(venv, 50)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))


@given(st.integers(0, 2**40), st.integers(0, 10_000), st.integers(0, 2**33))
def test_episode_seed_fits_every_seed_argument(run_seed, env_index, episode_index):
    assert 0 <= episode_seed(run_seed, env_index, episode_index) < 2**31 - 1


def test_episode_seed_never_changes():
    # a checkpoint is replayed from these numbers: another value breaks every saved run
    assert episode_seed(0, 0, 0) == 1733175440
    assert episode_seed(1, 2, 3) == 1284572418


def test_episode_seeds_differ():
    seeds = {episode_seed(run, env, episode) for run in range(8) for env in range(8) for episode in range(8)}
    assert len(seeds) == 512


def test_episode_seed_refuses_negative_numbers():
    with pytest.raises(ValueError, match="run_seed=-1"):
        episode_seed(-1, 0, 0)


def test_render():
    venv = make_vector("catch", num_envs=2, render_mode="rgb_array")
    venv.reset()
    picture = venv.render(1)
    assert (picture.shape, picture.dtype) == ((320, 160, 3), np.uint8)
    assert world("Noisy").render() is None
    venv.close()


def test_pictures_are_fresh():
    env = make_env("catch", render_mode="rgb_array")
    canvas = np.zeros((2, 2, 3), np.uint8)
    env.render = lambda: canvas
    picture = GymnasiumVector([env]).render()
    assert picture.shape == (2, 2, 3)
    assert not np.shares_memory(picture, canvas)


def test_close_reaches_every_environment():
    closed = []
    envs = [make_env("catch") for _ in range(2)]
    for index, env in enumerate(envs):
        env.close = lambda index=index: closed.append(index)
    GymnasiumVector(envs).close()
    assert closed == [0, 1]


def test_send_and_recv_are_a_step_and_come_in_turn():
    whole, parts = (make_vector("catch", num_envs=2, seed=5) for _ in range(2))
    whole.reset()
    parts.reset()
    action = np.array([0, 2])
    with pytest.raises(RuntimeError, match="call send before recv"):
        parts.recv()
    parts.send(action)
    with pytest.raises(RuntimeError, match="call recv before the next send"):
        parts.send(action)
    for wanted, got in zip(whole.step(action), parts.recv(), strict=True):
        np.testing.assert_array_equal(wanted, got)


def test_a_lost_life_comes_through_unless_the_episode_is_over():
    class Lives(Catch):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            return obs, reward, terminated, truncated, info | {"life_lost": True}

    venv = GymnasiumVector([Lives()])
    venv.reset()
    for row in range(1, 10):
        step = venv.step(np.array([1]))
        assert step.life_lost == (row < 9)
        assert step.terminal


def test_joined_vectors_play_what_each_would_have_played():
    """Also where they are in the middle of an episode, and what each saves of itself is what it would have saved."""
    alone, members = ([make_vector("catch", num_envs=2, seed=seed) for seed in (3, 4)] for _ in range(2))
    rng = np.random.default_rng(0)
    for venv in (*alone, *members):
        venv.reset()
        venv.step(np.array([0, 2]))
    whole = GymnasiumVector.joined(members)
    assert (whole.num_envs, whole.num_actions, whole.has_action_mask) == (4, 3, False)
    for _ in range(30):
        action = rng.integers(3, size=4)
        got, wanted = whole.step(action), [venv.step(own) for venv, own in zip(alone, np.split(action, 2), strict=True)]
        for name in got._fields:
            np.testing.assert_array_equal(getattr(got, name), np.concatenate([getattr(step, name) for step in wanted]))
        obs = [venv.reset_done(step.done) for venv, step in zip(alone, wanted, strict=True)]
        np.testing.assert_array_equal(whole.reset_done(got.done), np.concatenate(obs))
        assert [member.state_dict() for member in members] == [venv.state_dict() for venv in alone]


def test_vectors_of_different_environments_are_not_joined():
    with pytest.raises(ValueError, match="vector 1 has other spaces than vector 0"):
        GymnasiumVector.joined([make_vector("catch"), make_vector("chain")])

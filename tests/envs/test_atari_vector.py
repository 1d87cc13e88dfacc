"""Does ALE's vector environment, as it is used here, show and score what the emulator does?"""

import faulthandler
import warnings
from itertools import pairwise

import ale_py
import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing

from envs import episode_seed, make_vector
from envs.atari import AtariVector

SEED = 3
ACTION = np.array([0, 0])


@pytest.fixture(autouse=True)
def _never_a_hang():
    # ALE waits without end, and without looking at signals, where an error of its threads gets lost
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Oracle:
    """One game on the bare emulator, with OpenCV: the newest frame, reward, whether the game ended, and lives."""

    def __init__(self, rom, sticky, seed):
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(str(ale_py.roms.get_rom_path(rom)))
        self.ale.reset_game()
        self.actions = self.ale.getMinimalActionSet()
        self.pooled = self.ale.getScreenGrayscale()
        self.third = np.zeros_like(self.pooled)

    def frame(self):
        return cv2.resize(self.pooled, (84, 84), interpolation=cv2.INTER_AREA)

    def step(self, action):
        screens, rewards = [], []
        while len(screens) < 4 and not self.ale.game_over():
            rewards.append(self.ale.act(self.actions[action]))
            screens.append(self.ale.getScreenGrayscale())
        over = self.ale.game_over()
        if len(screens) == 4:
            self.third = screens[2]
            # the screen that ends the game is not taken: the frame before it stands in
            self.pooled = np.maximum(screens[2], self.pooled if over else screens[3])
        return sum(rewards), over, self.ale.lives()


@pytest.mark.parametrize(
    ("name", "rom", "sticky", "num_steps", "whole"),
    [
        ("Breakout", "breakout", 0.25, 1000, True),
        ("SpaceInvaders", "space_invaders", 0.0, 1000, True),
        ("Pong", "pong", 0.25, 150, False),
    ],
)
def test_frames_and_scores_are_those_of_the_emulator(name, rom, sticky, num_steps, whole):
    vector = make_vector(f"ALE/{name}-v5", seed=SEED, kwargs={"repeat_action_probability": sticky, "life_loss": True})
    oracle = Oracle(rom, sticky, episode_seed(SEED, 0, 0))
    obs = vector.reset()
    np.testing.assert_array_equal(obs[0], [*np.zeros((3, 84, 84)), oracle.frame()])
    rng, rewards, over, lives = np.random.default_rng(0), [], False, oracle.ale.lives()
    for _ in range(num_steps):
        action = int(rng.integers(vector.num_actions))
        step = vector.step(np.array([action]))
        reward, over, lives_left = oracle.step(action)
        np.testing.assert_array_equal(step.next_obs[0], [*obs[0, 1:], oracle.frame()])
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (reward, over, False)
        assert step.life_lost[0] == (lives_left < lives and not over)
        obs, lives = step.next_obs, lives_left
        rewards.append(reward)
        if over:
            break
    assert over == whole
    if name == "SpaceInvaders":
        assert set(rewards) <= {0, 5, 10, 15, 20, 25, 30, 50, 100, 150, 200, 300}
        assert max(rewards) >= 10


def test_frames_are_those_of_gymnasiums_preprocessing():
    """Where the two can be equal: no sticky actions and no no-ops.

    gymnasium seeds ALE with a hash of the seed, so that sticky actions would fall elsewhere; it draws 1 .. noop_max
    no-ops where ALE draws 0 .. noop_max - 1; it stacks nothing, hence only the newest frames are compared.
    """
    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.0, disable_env_checker=True)
    env = AtariPreprocessing(env, noop_max=0, frame_skip=4, screen_size=84)
    vector = make_vector("ALE/Breakout-v5", kwargs={"repeat_action_probability": 0.0})
    wanted, _ = env.reset(seed=0)
    np.testing.assert_array_equal(vector.reset()[0, -1], wanted)
    rng, over, num_steps = np.random.default_rng(1), False, 0
    while not over:
        action = int(rng.integers(4))
        wanted, reward, over, _, _ = env.step(action)
        step = vector.step(np.array([action]))
        np.testing.assert_array_equal(step.next_obs[0, -1], wanted)
        assert (step.reward[0], step.terminated[0]) == (reward, over)
        num_steps += 1
    assert num_steps > 50
    env.close()


def play(vector, num_steps, width=64):
    """Every array handed out, with environment i given the same actions whatever the number of environments."""
    rng = np.random.default_rng(0)
    trace = [vector.reset()]
    for _ in range(num_steps):
        step = vector.step(rng.integers(vector.num_actions, size=width)[: vector.num_envs])
        trace += [*step, vector.reset_done(step.done)]
    return trace


def test_neither_threads_nor_neighbours_matter():
    options = {"seed": SEED, "max_steps": 12, "protocol": "dqn2015"}
    sticky = {"repeat_action_probability": 0.25, "noop_max": 9}

    def trace(num_envs, num_threads):
        kwargs = {**sticky, "num_threads": num_threads}
        return play(make_vector("ALE/Breakout-v5", num_envs=num_envs, kwargs=kwargs, **options), 20)

    wanted = trace(4, 2)
    assert len({obs.tobytes() for obs in wanted[-1]}) == 4
    for num_envs, num_threads in ((2, 1), (1, 1)):
        for got, array in zip(trace(num_envs, num_threads), wanted, strict=True):
            np.testing.assert_array_equal(got, array[:num_envs])


def until_done(vector, action):
    steps = [vector.step(np.array([action]))]
    while not steps[-1].done[0]:
        steps.append(vector.step(np.array([action])))
    return steps


def test_the_protocol_of_2015_ends_values_with_lives():
    vector = make_vector("ALE/Breakout-v5", protocol="dqn2015", seed=SEED)
    vector.reset()
    steps = until_done(vector, 1)
    lost = [step for step in steps if step.life_lost[0]]
    assert len(lost) == 4  # of 5, and with the last one the game is over
    for step in lost:
        assert step.terminal.tolist() == [True]
        assert step.done.tolist() == [False]
    assert steps[-1].terminated[0]
    assert not steps[-1].life_lost[0]
    # the frames of the game run through: nothing was reset
    for before, after in pairwise(steps):
        np.testing.assert_array_equal(after.next_obs[:, :3], before.next_obs[:, 1:])


def test_the_protocol_of_machado_knows_no_lives():
    vector = make_vector("ALE/Breakout-v5", seed=SEED)
    vector.reset()
    steps = until_done(vector, 1)
    assert not any(step.life_lost[0] for step in steps)
    assert [step.terminal[0] for step in steps] == [False] * (len(steps) - 1) + [True]


def test_steps_are_limited():
    vector = make_vector("ALE/Pong-v5", num_envs=2, max_steps=3)
    vector.reset()
    for wanted in [False, False, True] * 2:
        step = vector.step(np.array([0, 2]))
        assert step.truncated.tolist() == [wanted] * 2
        assert not step.terminated.any()
        obs = vector.reset_done(step.done)
        if wanted:
            assert not obs[:, :3].any()
            assert step.next_obs[:, :3].any(axis=(1, 2, 3)).all()


def test_frames_are_limited():
    vector = make_vector("ALE/Pong-v5", kwargs={"max_frames": 18})
    vector.reset()
    steps = until_done(vector, 0)
    assert [step.truncated[0] for step in steps] == [False] * 4 + [True]
    assert not steps[-1].terminated[0]


def test_what_is_over_is_not_cut_too():
    vector = make_vector("ALE/Breakout-v5", seed=SEED)
    vector.reset()
    num_steps = len(until_done(vector, 1))
    vector = make_vector("ALE/Breakout-v5", seed=SEED, max_steps=num_steps)
    vector.reset()
    last = until_done(vector, 1)[-1]
    assert (last.terminated[0], last.truncated[0]) == (True, False)


def test_only_what_is_done_is_reset():
    vector = make_vector("ALE/Breakout-v5", num_envs=3, seed=SEED)
    first = vector.reset()
    for _ in range(5):
        step = vector.step(np.array([1, 2, 3]))
    obs = vector.reset_done(np.array([False, True, False]))
    np.testing.assert_array_equal(obs[[0, 2]], step.next_obs[[0, 2]])
    assert not obs[1, :3].any()
    np.testing.assert_array_equal(vector.reset(), first)


def test_arrays_are_the_callers():
    vector = make_vector("ALE/Breakout-v5", num_envs=2)
    obs = vector.reset()
    obs[:] = 7
    assert (vector.reset_done(np.array([False, False])) != 7).any()
    step = vector.step(np.array([1, 2]))
    kept = step.next_obs.copy()
    step.next_obs[:] = 7
    np.testing.assert_array_equal(vector.reset_done(np.array([False, False])), kept)


def test_a_step_in_two_halves_is_a_step():
    one, two = (make_vector("ALE/Breakout-v5", num_envs=2, seed=SEED, max_steps=8) for _ in range(2))
    one.reset()
    two.reset()
    for _ in range(12):
        action = np.array([1, 3])
        whole = one.step(action)
        two.send(action)
        action[:] = 99
        halves = two.recv()
        for wanted, got in zip(whole, halves, strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
        one.reset_done(whole.done)
        two.reset_done(halves.done)


@pytest.fixture(scope="module")
def games():
    """Two games that are shared between tests, as it takes long to make them."""
    vector = make_vector("ALE/Pong-v5", num_envs=2)
    vector.reset()
    yield vector
    vector.close()


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "dtype float64, wanted integers"),
        ([True, False], TypeError, "dtype bool, wanted integers"),
        ([0], ValueError, r"shape \(1,\), wanted \(2,\)"),
        ([[0], [0]], ValueError, r"shape \(2, 1\), wanted \(2,\)"),
        ([0, 6], ValueError, "action 6 of environment 1 is out of range, wanted 0 .. 5"),
        ([-1, 0], ValueError, "action -1 of environment 0 is out of range, wanted 0 .. 5"),
    ],
)
def test_actions_are_checked(games, action, error, message):
    with pytest.raises(error, match=message):
        games.step(np.array(action))
    games.step(np.array([5, 0], np.uint8))  # and nothing was broken


def test_an_episode_that_is_over_is_not_stepped():
    vector = make_vector("ALE/Pong-v5", num_envs=2, max_steps=1)
    vector.reset()
    vector.step(ACTION)
    with pytest.raises(RuntimeError, match=r"environments \[0, 1\] are over: call reset_done"):
        vector.step(ACTION)
    vector.reset_done(np.array([True, False]))
    with pytest.raises(RuntimeError, match=r"environments \[1\] are over: call reset_done"):
        vector.step(ACTION)


def test_every_send_has_its_recv(games):
    with pytest.raises(RuntimeError, match="call send before recv"):
        games.recv()
    games.send(ACTION)
    with pytest.raises(RuntimeError, match="call recv before the next send"):
        games.send(ACTION)
    games.recv()


def test_between_the_halves_of_a_step_nothing_else_is_done(games):
    first = games.reset()
    state = games.state_dict()
    games.send(ACTION)
    for method, arguments in (("reset_done", [np.array([True, True])]), ("state_dict", [])):
        with pytest.raises(RuntimeError, match=f"call recv before {method}"):
            getattr(games, method)(*arguments)
    np.testing.assert_array_equal(games.reset(), first)
    games.send(ACTION)
    assert games.load_state_dict(state) == []
    np.testing.assert_array_equal(games.reset_done(np.array([False, False])), first)
    wanted = games.step(ACTION)
    games.reset()
    np.testing.assert_array_equal(games.step(ACTION).next_obs, wanted.next_obs)


@pytest.mark.parametrize(
    ("done", "error", "message"),
    [
        ([1, 0], TypeError, "dtype int64, wanted bool"),
        ([True], ValueError, r"shape \(1,\), wanted \(2,\)"),
    ],
)
def test_done_is_checked(games, done, error, message):
    with pytest.raises(error, match=message):
        games.reset_done(np.array(done))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("send", [ACTION]), ("reset_done", [np.array([True, True])]), ("state_dict", [])],
)
def test_nothing_goes_before_reset(method, arguments):
    with pytest.raises(RuntimeError, match=f"call reset before {method}"):
        getattr(make_vector("ALE/Pong-v5", num_envs=2), method)(*arguments)


def test_a_closed_vector_is_over():
    pong = make_vector("ALE/Pong-v5", num_envs=2)
    pong.reset()
    state = pong.state_dict()
    pong.send(ACTION)  # the games are on their way
    pong.close()
    pong.close()
    for method, arguments in (
        ("reset", []),
        ("send", [ACTION]),
        ("reset_done", [np.array([True, True])]),
        ("load_state_dict", [state]),
    ):
        with pytest.raises(RuntimeError, match="this environment is closed"):
            getattr(pong, method)(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0, wanted at least 1"),
        ({"seed": -1}, "seed is -1, wanted at least 0"),
        ({"max_steps": 0}, "max_steps is 0, wanted at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        AtariVector("ALE/Pong-v5", **options)


def test_what_gymnasium_shares_is_not_changed():
    shared = gymnasium.vector.VectorEnv.metadata
    before = dict(shared)
    vector = make_vector("ALE/Pong-v5")
    assert gymnasium.vector.VectorEnv.metadata is shared
    assert shared == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = gymnasium.make_vec("CartPole-v1", num_envs=1, vectorization_mode="sync")
    assert other.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    vector.close()

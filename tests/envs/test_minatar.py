"""Is our MinAtar N games that know nothing of each other, repeated exactly, and honest at the ends of episodes?"""

import numpy as np
import pytest
import torch

from envs import make_env, make_vector
from envs.check import check_env
from envs.minatar import GAMES, MinAtarEnv, MinAtarVector, minatar_vector
from envs.minatar.seaquest_state import pushed

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def played(vector, num_steps, seed=0):
    """Every array handed out, each with a copy made at once."""
    rng = np.random.default_rng(seed)
    trace = []
    for _ in range(num_steps):
        step = vector.step(rng.integers(vector.num_actions, size=vector.num_envs))
        trace += [*step, vector.reset_done(step.done)]
    return [(array, array.copy()) for array in trace]


def assert_same(one, two):
    assert len(one) == len(two)
    for (a, _), (b, _) in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def restarted(game, state, terminal, generator):
    """`state` with fresh games where they ended."""
    fresh = game.start(len(terminal), game.draw(game.start_chances, len(terminal), generator))
    return type(state)(*(torch.where(terminal, b, a) for a, b in zip(state, fresh, strict=True)))


def later(game, num_envs, num_steps=60):
    """A state with something going on in it."""
    generator = torch.Generator().manual_seed(3)
    state = game.start(num_envs, game.draw(game.start_chances, num_envs, generator))
    for _ in range(num_steps):
        draws = game.draw(game.step_chances, num_envs, generator)
        state, _, terminal = game.step(state, torch.randint(6, (num_envs,), generator=generator), draws)
        state = restarted(game, state, terminal, generator)
    return state


def of_one(tensors, i):
    """What N environments have of the one."""
    return type(tensors)(*(part[..., i : i + 1] for part in tensors))


@pytest.mark.parametrize("name", GAMES)
def test_many_games_are_each_as_if_it_were_alone(name):
    game, num_envs = GAMES[name](), 12
    together = later(game, num_envs)
    alone = [of_one(together, i) for i in range(num_envs)]
    generator, going_on = torch.Generator().manual_seed(4), torch.ones(num_envs, dtype=torch.bool)
    for _ in range(20):
        action, draws = torch.randint(6, (num_envs,), generator=generator), game.draw(game.step_chances, 12, generator)
        together, reward, terminal = game.step(together, action, draws)
        for i in going_on.nonzero().flatten().tolist():
            of_draws = {key: value[..., i : i + 1] for key, value in draws.items()}
            alone[i], one_reward, one_terminal = game.step(alone[i], action[i : i + 1], of_draws)
            assert (one_reward, one_terminal) == (reward[i], terminal[i])
            assert one_terminal or torch.equal(game.observe(alone[i]), game.observe(together)[i : i + 1])
        going_on &= ~terminal
        together = restarted(game, together, terminal, generator)
    assert going_on.any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", GAMES)
def test_the_contract(name, device):
    vector = make_vector(f"minatar/{name}", num_envs=5, seed=1, max_steps=70, kwargs={"device": device})
    space = vector.observation_space
    obs = vector.reset()
    assert (obs.shape, obs.dtype) == ((5, *space.shape), np.bool_)
    assert space.shape == (10, 10, len(GAMES[name].channels))
    rng, ends = np.random.default_rng(0), 0
    for _ in range(150):
        step = vector.step(rng.integers(vector.num_actions, size=5))
        assert [part.dtype for part in step] == [np.bool_, np.float32, np.bool_, np.bool_, np.bool_]
        assert not (step.terminated & step.truncated).any()
        assert not step.life_lost.any()
        obs = vector.reset_done(step.done)
        np.testing.assert_array_equal(obs[~step.done], step.next_obs[~step.done])
        assert (obs[step.done] != step.next_obs[step.done]).any(axis=(1, 2, 3)).all(), "the end was overwritten"
        ends += step.done.sum()
    assert ends >= 10
    assert vector.render() is None
    assert vector.action_mask is None


@pytest.mark.parametrize("name", GAMES)
def test_what_was_handed_out_stays_what_it_was_and_is_the_callers(name):
    trace = played_after_reset(vector := make_vector(f"minatar/{name}", num_envs=4, seed=2), 80)
    for array, copy in trace:
        np.testing.assert_array_equal(array, copy)
    before = vector.reset_done(np.zeros(4, bool))
    trace[-1][0][:] = True
    np.testing.assert_array_equal(vector.reset_done(np.zeros(4, bool)), before)


def played_after_reset(vector, num_steps):
    obs = vector.reset()
    return [(obs, obs.copy()), *played(vector, num_steps)]


@pytest.mark.parametrize("name", GAMES)
def test_a_seed_repeats_and_another_differs(name):
    make = lambda seed: make_vector(f"minatar/{name}", num_envs=6, seed=seed)  # noqa: E731
    vector = make(5)
    trace = played_after_reset(vector, 60)
    assert_same(trace, played_after_reset(make(5), 60))
    assert_same(trace, played_after_reset(vector, 60))
    other = played_after_reset(make(6), 60)
    assert any(not np.array_equal(a, b) for (a, _), (b, _) in zip(trace, other, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("ended", [False, True])
def test_a_resumed_vector_goes_on_exactly(name, ended, device):
    options = {"num_envs": 6, "seed": 7, "max_steps": 90, "kwargs": {"device": device}}
    vector = make_vector(f"minatar/{name}", **options)
    vector.reset()
    played(vector, 50)
    done = np.zeros(6, bool)
    while ended and not done.any():
        done = vector.step(np.zeros(6, int)).done
    resumed = make_vector(f"minatar/{name}", **options)
    assert resumed.load_state_dict(vector.state_dict()) == []
    nothing = np.zeros(6, bool)
    np.testing.assert_array_equal(resumed.reset_done(nothing), vector.reset_done(nothing))
    np.testing.assert_array_equal(resumed.reset_done(done), vector.reset_done(done))
    assert_same(played(resumed, 60), played(vector, 60))


def test_a_truncated_episode_is_cut_at_its_length():
    vector = make_vector("minatar/freeway", num_envs=2, max_steps=7)
    vector.reset()
    for step in range(1, 15):
        result = vector.step(np.array([0, 1]))
        assert result.truncated.all() == (step % 7 == 0)
        vector.reset_done(result.done)


def test_actions_stick_a_tenth_of_the_time():
    """The chicken goes up on its first chance unless the no-op before it sticks: binomial, within 5 deviations."""
    num_envs = 20_000
    vector = make_vector("minatar/freeway", num_envs=num_envs, seed=3)
    obs = vector.reset()
    for action in (0, 0, 0, 1):
        obs = vector.step(np.full(num_envs, action)).next_obs
    moved = obs[:, 8, 4, 0].mean()
    assert abs(moved - 0.9) < 5 * np.sqrt(0.09 / num_envs)
    never = make_vector("minatar/freeway", num_envs=500, kwargs={"sticky_action_prob": 0.0})
    never.reset()
    for action in (0, 0, 0, 1):
        obs = never.step(np.full(500, action)).next_obs
    assert obs[:, 8, 4, 0].all()


def test_what_comes_in_asterix_is_uniform_over_lanes_sides_and_a_third_gold():
    num_envs = 48_000
    vector = MinAtarVector("asterix", num_envs=num_envs, seed=4)
    vector.reset()
    for _ in range(11):
        obs = vector.step(np.zeros(num_envs, int)).next_obs
    # all have come and made their first move
    counts = np.array([[obs[:, 1:9, x, kind].sum(0) for x in (1, 8)] for kind in (1, 3)])  # [kind, side, lane]
    assert counts.sum() == num_envs
    expected = num_envs * np.array([2 / 3, 1 / 3])[:, None, None] / 16 * np.ones((2, 2, 8))
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 61.1, "31 degrees of freedom, p = 0.001"


def test_cars_of_every_speed_go_both_ways():
    num_envs = 10_000
    obs = MinAtarVector("freeway", num_envs=num_envs, seed=5).reset()
    counts = np.array([[obs[:, 1:9, x, 1 + speed].sum() for x in (1, 9)] for speed in range(1, 6)])
    assert counts.sum() == 8 * num_envs
    assert ((counts - 8_000) ** 2 / 8_000).sum() < 27.9, "9 degrees of freedom, p = 0.001"


@pytest.mark.parametrize(
    ("name", "minimal"),
    [
        ("asterix", ["noop", "left", "up", "right", "down"]),
        ("breakout", ["noop", "left", "right"]),
        ("freeway", ["noop", "up", "down"]),
        ("seaquest", ["noop", "left", "up", "right", "down", "fire"]),
        ("space_invaders", ["noop", "left", "right", "fire"]),
    ],
)
def test_sets_of_actions(name, minimal):
    assert make_vector(f"minatar/{name}").action_names == minimal
    full = make_vector(f"minatar/{name}", kwargs={"minimal_actions": False})
    assert full.action_names == ["noop", "left", "up", "right", "down", "fire"]
    assert full.num_actions == 6
    env = make_env(f"minatar/{name}")
    assert isinstance(env, MinAtarEnv)
    assert env.get_action_meanings() == minimal


@pytest.mark.parametrize("name", ["asterix", "breakout"])
def test_the_check_finds_nothing_wrong(name):
    findings = check_env(f"minatar/{name}", steps=400)
    assert {finding.level for finding in findings} == {"ok"}
    assert any("seeds reproduce" in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0, wanted at least 1"),
        ({"seed": -1}, "seed is -1, wanted at least 0"),
        ({"max_steps": 0}, "max_steps is 0, wanted at least 1"),
        ({"sticky_action_prob": 1.0}, "sticky_action_prob is 1.0, wanted 0 <= sticky_action_prob < 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        MinAtarVector("asterix", **options)


def test_what_is_refused():
    with pytest.raises(ValueError, match="game is 'pong', wanted one of asterix"):
        MinAtarVector("pong")
    with pytest.raises(ValueError, match="frame_stack is 4, but MinAtar shows"):
        minatar_vector("asterix", 4)
    vector = MinAtarVector("asterix", num_envs=2, seed=1)
    with pytest.raises(RuntimeError, match="call reset before send"):
        vector.send(np.zeros(2, int))
    vector.reset()
    with pytest.raises(RuntimeError, match="call send before recv"):
        vector.recv()
    with pytest.raises(ValueError, match="action 5 of environment 1 is out of range"):
        vector.send(np.array([0, 5]))
    vector.send(np.zeros(2, int))
    for ask, what in ((lambda: vector.send(np.zeros(2, int)), "the next send"), (vector.state_dict, "state_dict")):
        with pytest.raises(RuntimeError, match=f"call recv before {what}"):
            ask()
    vector.recv()
    other = MinAtarVector("breakout", num_envs=2, seed=1)
    other.reset()
    with pytest.raises(ValueError, match="is of asterix with seed 1 and 2 environments, this vector of breakout"):
        other.load_state_dict(vector.state_dict())
    vector.close()
    for ask in (vector.reset, lambda: vector.send(np.zeros(2, int)), lambda: vector.reset_done(np.zeros(2, bool))):
        with pytest.raises(RuntimeError, match="this environment is closed"):
            ask()


def test_what_comes_last_is_first_in_its_queue():
    queue = torch.tensor([[1, 4], [2, 5], [3, 6]])
    assert pushed(queue, torch.tensor([7, 8]), torch.tensor([True, False])).tolist() == [[7, 4], [1, 5], [2, 6]]


def test_an_ended_episode_is_not_stepped():
    vector = MinAtarVector("breakout", num_envs=2, seed=1, max_steps=3)
    vector.reset()
    for _ in range(3):
        vector.step(np.zeros(2, int))
    with pytest.raises(RuntimeError, match=r"episodes of environments \[0, 1\] are over"):
        vector.send(np.zeros(2, int))


def test_the_shot_of_an_enemy_that_is_gone_flies_on():
    """It is the only thing of all enemies, in the place of the fourth newest."""
    game = GAMES["seaquest"]()
    state = game.start(1, {})
    state.shot_x[3], state.enemy_y[3], state.enemy_direction[3] = 6, 2, 1
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(5):
        seen.append(game.observe(state)[0, :, :, 4].nonzero().tolist())
        state, _, _ = game.step(state, torch.tensor([0]), game.draw(game.step_chances, 1, generator))
    assert seen == [[[2, 6]], [[2, 7]], [[2, 8]], [[2, 9]], []]

"""Does our MinAtar do what the original's package does, step by step and driven by the same random numbers?

The original's generators are replaced by some that write down what they give; our games take those numbers as draws.
Observations, rewards, ends and what a reset shows are compared, all of them, in every step.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from envs.minatar import GAMES

original = pytest.importorskip("minatar", reason="pip install 'classyq[minatar]'")

STICKY = 0.1


class Recorder:
    """A generator that writes down what it gives."""

    def __init__(self, seed):
        self.generator = np.random.RandomState(seed)
        self.given = []

    def rand(self, *args):
        self.given.append(self.generator.rand(*args))
        return self.given[-1]

    def randint(self, *args, **kwargs):
        self.given.append(np.copy(self.generator.randint(*args, **kwargs)))
        return self.given[-1]

    def take(self):
        given, self.given = self.given, []
        return given


class Before(NamedTuple):
    """What is due in Seaquest, before it is done."""

    enemy: bool
    diver: bool


def asterix_draws(given, before, game):
    if not given:
        return {}
    right, gold, *lane = given  # there is no lane to be drawn where none is empty
    return {"to_the_left": right >= 0.5, "gold": 0 if gold < 1 / 3 else 1, "lane": lane[0] if lane else 0}


def breakout_draws(given, before, game):
    return {"from_the_right": given[0]} if given else {}


def freeway_draws(given, before, game):
    if not given:
        return {}
    speed = np.array([car[3] for car in game.cars])
    np.testing.assert_array_equal(np.abs(speed), np.abs(given[0]))
    return {"car": np.abs(speed) - 1 + 5 * (speed > 0)}


def seaquest_draws(given, before, game):
    draws, given = {}, list(given)
    if before.enemy:
        right, shoots, lane = given[:3]
        draws |= {
            "enemy_to_the_left": right >= 0.5,
            "enemy_shoots": 0 if shoots < 1 / 3 else 1,
            "enemy_lane": lane - 1,
        }
        del given[:3]
    if before.diver:
        right, lane = given
        return draws | {"diver_to_the_left": right >= 0.5, "diver_lane": lane - 1}
    assert not given
    return draws


def space_invaders_draws(given, before, game):
    assert not given
    return {}


DRAWS = {
    "asterix": asterix_draws,
    "breakout": breakout_draws,
    "freeway": freeway_draws,
    "seaquest": seaquest_draws,
    "space_invaders": space_invaders_draws,
}


def policy(name, game, rng):
    """Random, but with enough sense to see the later parts of a game."""
    if rng.random() < 0.3:
        return int(rng.integers(6))
    if name == "breakout":
        ball = game.ball_x + (1 if game.ball_dir in (1, 2) else -1)
        return 0 if ball == game.pos else 1 if ball < game.pos else 3
    if name == "freeway":
        return 2
    if name == "seaquest":
        return int(rng.choice([1, 3, 5, 5]))
    return 5 if name == "space_invaders" else int(rng.integers(6))


def set_late(state, index, game, rng):
    """Put a game of Seaquest, the original's and ours, where a good player would have brought it."""
    ramps = int(rng.choice([0, 1, 2, 3, 4, 5, 6, 10, 15, 19, 19, 19]))
    game.e_spawn_speed, game.move_speed, game.ramp_index = 20 - ramps, 5 - min(3, ramps // 2), ramps
    game.diver_count, game.oxygen = int(rng.choice([0, 3, 5, 5, 6])), int(rng.integers(1, 201))
    game.e_spawn_timer, game.d_spawn_timer = 1, int(rng.integers(5))
    state.spawn_interval[index], state.move_interval[index], state.num_ramps[index] = 20 - ramps, game.move_speed, ramps
    state.aboard[index], state.oxygen[index] = game.diver_count, game.oxygen
    state.until_enemy[index], state.until_diver[index] = 1, game.d_spawn_timer


def crowd(state, index, game, rng):
    """Put what moves in a game of Seaquest, the original's and ours, into few cells, where their order counts.

    No two of a kind are the same in place and time, as they never are in play: the original would take one for the
    other.
    """
    lane, x = int(rng.integers(2, 8)), int(rng.integers(3, 7))
    game.sub_x, game.sub_y, game.sub_or, game.surface = x, lane, bool(rng.integers(2)), False
    game.diver_count, game.shot_timer, game.e_spawn_timer, game.d_spawn_timer = int(rng.integers(3, 7)), 15, 9, 15
    state.x[index], state.y[index], state.direction[index] = x, lane, 1 if game.sub_or else -1
    state.surfaced[index], state.aboard[index], state.until_fire[index] = False, game.diver_count, 15
    state.until_enemy[index], state.until_diver[index] = 9, 15

    def near(y):
        return [int(np.clip(x + rng.integers(-2, 3), 0, 9)), int(y), bool(rng.integers(2))]

    shooting_lane = lane + int(rng.integers(-1, 2))
    game.f_bullets = [near(shooting_lane) for _ in range(2)]  # the older one first
    if rng.random() < 0.5:  # the two meet
        there, to_the_right = int(rng.integers(x - 1, x + 2)), bool(rng.integers(2))
        ways = ((there - 1, True), (there + 1, False))
        game.f_bullets = [[start, shooting_lane, way] for start, way in (ways if to_the_right else ways[::-1])]
    game.divers = [[*near(lane + rng.integers(-1, 2)), int(timer)] for timer in rng.permutation(3)]
    for place, bullet in enumerate(game.f_bullets[::-1]):
        state.bullet_x[place, index], state.bullet_y[place, index] = bullet[:2]
        state.bullet_direction[place, index] = 1 if bullet[2] else -1
    for place, diver in enumerate(game.divers[::-1]):
        state.diver_x[place, index], state.diver_y[place, index] = diver[:2]
        state.diver_direction[place, index], state.diver_until_move[place, index] = 1 if diver[2] else -1, diver[3]
    to_the_right = bool(rng.integers(2))
    enemies = [
        (here, shoots) for shoots in (False, True) for here in rng.permutation(15)[: rng.integers(1, 8)].tolist()
    ]
    rng.shuffle(enemies)
    for age, (here, shoots) in enumerate(enemies):
        place = len(enemies) - 1 - age  # the newest first
        enemy = [x - 2 + here // 3, shooting_lane, to_the_right, here % 3]
        shoots, until_shot = bool(shoots), int(rng.integers(10))
        (game.e_subs if shoots else game.e_fish).append([*enemy, until_shot] if shoots else enemy)
        state.enemy_x[place, index], state.enemy_y[place, index] = enemy[:2]
        state.enemy_direction[place, index] = 1 if to_the_right else -1
        state.enemy_until_move[place, index], state.enemy_until_shot[place, index] = enemy[3], until_shot
        state.enemy_shoots[place, index] = shoots


class Both:
    """N games of the original and N of ours."""

    def __init__(self, name, num_envs, *, late, set_up=set_late):
        self.name, self.late, self.set_up = name, late, set_up
        self.originals = [original.Environment(name, sticky_action_prob=STICKY) for _ in range(num_envs)]
        for index, env in enumerate(self.originals):
            env.random, env.env.random = Recorder(2 * index), Recorder(2 * index + 1)
        self.ours = GAMES[name]()
        self.rng, self.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.state = self.started(range(num_envs))

    def draws(self, chances, given):
        """The draws of `given`, {environment: {name: number}}; what is not given there is drawn, and not to matter."""
        draws = self.ours.draw(chances, len(self.originals), self.generator)
        for index, numbers in given.items():
            for name, number in numbers.items():
                draws[name][..., index] = torch.as_tensor(np.asarray(number).astype(np.int16))
        return draws

    def started(self, indices):
        given = {}
        for index in indices:
            env = self.originals[index]
            env.env.random.take()
            env.reset()
            given[index] = DRAWS[self.name](env.env.random.take(), Before(False, False), env.env)
        state = self.ours.start(len(self.originals), self.draws(self.ours.start_chances, given))
        if self.late and self.name == "seaquest":
            state = type(state)(*(part.clone() for part in state))
            for index in indices:
                self.set_up(state, index, self.originals[index].env, self.rng)
        return state

    def step(self):
        actions, given, reward, terminal = [], {}, [], []
        for index, env in enumerate(self.originals):
            game, last = env.env, env.last_action
            before = Before(getattr(game, "e_spawn_timer", 1) == 0, getattr(game, "d_spawn_timer", 1) == 0)
            wanted = policy(self.name, game, self.rng)
            result = env.act(wanted)
            actions.append(last if env.random.take()[0] < STICKY else wanted)
            given[index] = DRAWS[self.name](game.random.take(), before, game)
            reward.append(result[0])
            terminal.append(result[1])
        assert actions == [env.last_action for env in self.originals]
        old = [part.clone() for part in self.state]
        state, our_reward, our_terminal = self.ours.step(
            self.state, torch.tensor(actions), self.draws(self.ours.step_chances, given)
        )
        assert all(torch.equal(a, b) for a, b in zip(old, self.state, strict=True)), "the state given was changed"
        assert [part.dtype for part in state] == [part.dtype for part in old]
        self.state = state
        np.testing.assert_array_equal(our_reward.numpy(), reward)
        np.testing.assert_array_equal(our_terminal.numpy(), terminal)
        return np.array(terminal)

    def check_observations(self):
        wanted = np.stack([env.state() for env in self.originals])
        np.testing.assert_array_equal(self.ours.observe(self.state).numpy(), wanted)

    def go_on(self, terminal):
        """Start again what has ended; with `late`, some games go on although they are lost, to see more of them."""
        for index in np.flatnonzero(terminal):
            env = self.originals[index].env
            possible = self.late and self.name != "breakout" and getattr(env, "oxygen", 1) > 0
            if possible and self.rng.random() < 0.99:
                env.terminal = False
                terminal[index] = False
        if terminal.any():
            fresh = self.started(np.flatnonzero(terminal))
            mask = torch.from_numpy(terminal)
            self.state = type(fresh)(*(torch.where(mask, a, b) for a, b in zip(fresh, self.state, strict=True)))


def compare_crowds(num_envs):
    both = Both("seaquest", num_envs, late=True, set_up=crowd)
    both.check_observations()
    for _ in range(12):
        both.step()
        both.check_observations()
        for env in both.originals:
            env.env.terminal = False  # lost or not: it is about what meets


def compare(name, num_envs, num_steps, *, late):
    both = Both(name, num_envs, late=late)
    ended = 0
    for _ in range(num_steps):
        both.check_observations()
        terminal = both.step()
        both.check_observations()
        ended += terminal.sum()
        both.go_on(terminal)
    return ended


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", GAMES)
def test_every_step_is_that_of_the_original(name, late):
    ended = compare(name, 16, 200, late=late)
    assert ended > 10 or name == "freeway"


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", GAMES)
def test_many_steps_are_those_of_the_original(name, late):
    """10^5 and a few of them, past the end of Freeway."""
    assert compare(name, 40, 2600, late=late) >= 40


def test_who_meets_whom_in_a_crowd_is_the_originals():
    """Where things share a cell, the order in which the original goes through them decides what is left."""
    compare_crowds(400)


@pytest.mark.slow
def test_who_meets_whom_in_many_crowds_is_the_originals():
    compare_crowds(9000)


@pytest.mark.parametrize("name", GAMES)
def test_channels_and_actions_are_the_originals(name):
    env, ours = original.Environment(name), GAMES[name]()
    channels = [channel.replace("guage", "gauge") for channel in env.env.channels]
    assert list(ours.channels) == sorted(channels, key=lambda channel: channels.index(channel))
    assert list(ours.minimal_actions) == env.minimal_action_set()
    assert list(env.env.action_map) == ["n", "l", "u", "r", "d", "f"]


@pytest.mark.parametrize("name", ["asterix", "seaquest", "space_invaders"])
def test_without_ramping_it_is_the_original_without_ramping(name):
    """Intervals stay as they were, where with ramping they had become shorter."""
    env, game = original.Environment(name, difficulty_ramping=False), GAMES[name](difficulty_ramping=False)
    env.env.random = Recorder(0)
    state = game.start(1, {})
    generator = torch.Generator().manual_seed(0)
    for _ in range(1500):
        before = Before(getattr(env.env, "e_spawn_timer", 1) == 0, getattr(env.env, "d_spawn_timer", 1) == 0)
        if name == "seaquest":
            env.env.diver_count = 5
            state = state._replace(aboard=torch.full_like(state.aboard, 5))
        env.act(int(np.random.default_rng(_).integers(6)))
        draws = game.draw(game.step_chances, 1, generator)
        for key, number in DRAWS[name](env.env.random.take(), before, env.env).items():
            draws[key][..., 0] = int(number)
        state, _, _ = game.step(state, torch.tensor([env.last_action]), draws)
        np.testing.assert_array_equal(game.observe(state)[0].numpy(), env.state())
        if env.env.terminal and getattr(env.env, "oxygen", 1) < 0:
            break
        env.env.terminal = False

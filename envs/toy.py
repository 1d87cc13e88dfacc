"""Small worlds whose right answers are known, for tests and first runs.

S states, A actions.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.dynamic_programming import TransitionModel, optimal_q

PIXELS_PER_CELL = 32


class ToyEnv(gymnasium.Env[np.ndarray, np.int64]):
    """A world that draws its observation as grey cells."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, render_mode: str | None):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, wanted 'rgb_array' or None")
        self.render_mode = render_mode

    def observe(self) -> np.ndarray:
        """The observation of the current state, with entries 0 and 1."""
        raise NotImplementedError

    def slips(self, slip: float) -> bool:
        """Whether something goes wrong that does so with probability `slip`; without it nothing is drawn."""
        return slip > 0 and self.np_random.random() < slip

    def noisy(self, reward: float, noise: float) -> float:
        """A reward with U(-noise, noise) on top; without it nothing is drawn."""
        return reward + noise * self.np_random.uniform(-1.0, 1.0) if noise > 0 else reward

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The observation as uint8 [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        cells = np.atleast_2d(self.observe() * 255).astype(np.uint8)
        grey = np.kron(cells, np.ones((PIXELS_PER_CELL, PIXELS_PER_CELL), np.uint8))
        return np.stack([grey] * 3, axis=-1)


class Catch(ToyEnv):
    """A ball falls one row per step; the paddle in the bottom row has to be under it when it lands.

    Observation: float32 [10, 5], 1 at the ball and at the paddle. The ball starts in a random column of the
    top row, the paddle in the middle. Actions: 0 left, 1 stay, 2 right. Reward: +1 or -1 at the last of 9
    steps, 0 before it. After the idea of Catch in bsuite (Osband et al., 2020).

    With probability `slip` an action that is drawn uniformly takes the place of the one given. To every reward
    U(-reward_noise, reward_noise) is added, which changes no value; `return_range` is then that of the targets of one
    step, r + Q.

    Raises:
        ValueError: slip outside [0, 1], or negative noise.
    """

    rows, columns = 10, 5

    def __init__(self, slip: float = 0.0, reward_noise: float = 0.0, render_mode: str | None = None):
        super().__init__(render_mode)
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip is {slip}, wanted 0 <= slip <= 1")
        check_noise(reward_noise)
        self.slip, self.reward_noise = slip, reward_noise
        self.return_range = (-1.0 - reward_noise, 1.0 + reward_noise)
        self.observation_space = Box(0.0, 1.0, (self.rows, self.columns), np.float32)
        self.action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._ball_row = 0
        self._ball_column = int(self.np_random.integers(self.columns))
        self._paddle_column = self.columns // 2
        return self.observe(), {}

    def step(self, action: int | np.integer):
        if self.slips(self.slip):
            action = int(self.np_random.integers(3))
        self._paddle_column = self.moved(self._paddle_column, int(action))
        self._ball_row += 1
        landed = self._ball_row == self.rows - 1
        caught = self._paddle_column == self._ball_column
        reward = (1.0 if caught else -1.0) if landed else 0.0
        return self.observe(), self.noisy(reward, self.reward_noise), landed, False, {}

    def moved(self, paddle: int, action: int) -> int:
        """The paddle's column after an action."""
        return min(max(paddle + action - 1, 0), self.columns - 1)

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return ["left", "stay", "right"]

    def observe(self) -> np.ndarray:
        return self.board(self._ball_row, self._ball_column, self._paddle_column)

    def board(self, ball_row: int, ball_column: int, paddle_column: int) -> np.ndarray:
        """What is observed of a state."""
        board = np.zeros((self.rows, self.columns), np.float32)
        board[ball_row, ball_column] = 1.0
        board[-1, paddle_column] = 1.0
        return board

    def transition_model(self) -> TransitionModel:
        """Every state in which the ball is in the air, numbered by its row, its column and the paddle's column, and two
        terminal states, missed and caught, which are observed as 0 everywhere.

        In some of them the paddle is too far from the middle for the time that has passed: these cannot be reached,
        and have values all the same.
        """
        places = [(r, c, p) for r in range(self.rows - 1) for c in range(self.columns) for p in range(self.columns)]
        number = {place: k for k, place in enumerate(places)}
        probs, start = np.zeros((len(places), 3, len(places) + 2)), np.zeros(len(places))
        reward = np.zeros_like(probs)
        reward[..., -2:] = -1.0, 1.0
        for (row, column, paddle), state in number.items():
            start[state] = (row == 0 and paddle == self.columns // 2) / self.columns
            for done in range(3):
                after = self.moved(paddle, done)
                successor = number.get((row + 1, column, after), len(places) + (after == column))
                probs[state, :, successor] += self.slip / 3 + (1 - self.slip) * (np.arange(3) == done)
        obs = [self.board(*place) for place in places] + [np.zeros((self.rows, self.columns), np.float32)] * 2
        terminal = np.arange(len(obs)) >= len(places)
        return TransitionModel(probs, reward * (probs > 0), terminal, np.stack(obs), start)


class Chain(ToyEnv):
    """A walk along a row of states with an exit at each end, and action values that are known.

    Action 1 moves right and action 0 left; with probability `slip` the move goes the other way. A move to
    the right pays +0.1, to the left -0.1; leaving at the right end pays +1, at the left end -1, and ends the
    episode. Every episode starts in a state drawn uniformly. Observation: one-hot float32 [length], all 0
    after the end.

    Rewards add up to at most `0.1 * (length - 1) + 1` whatever one does, and to at least minus that. A
    discounted return is a weighted mean of 0 and such sums, so `return_range` holds for every policy and
    every discount.

    With slip = 0 going right is best everywhere, and for gamma < 1, with d = length - 1 - s moves before the
    exit: `V(s) = 0.1 * (1 - gamma**d) / (1 - gamma) + gamma**d`. Noise is as in `Catch`.

    Raises:
        ValueError: length < 2, slip outside [0, 0.5), or negative noise.
    """

    step_reward, exit_reward = 0.1, 1.0

    def __init__(self, length: int = 5, slip: float = 0.1, reward_noise: float = 0.0, render_mode: str | None = None):
        super().__init__(render_mode)
        if length < 2:
            raise ValueError(f"length is {length}, wanted at least 2")
        if not 0.0 <= slip < 0.5:
            raise ValueError(f"slip is {slip}, wanted 0 <= slip < 0.5")
        check_noise(reward_noise)
        self.length, self.slip, self.reward_noise = length, slip, reward_noise
        highest = self.step_reward * (length - 1) + self.exit_reward + reward_noise
        self.return_range = (-highest, highest)
        self.observation_space = Box(0.0, 1.0, (length,), np.float32)
        self.action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._state = int(self.np_random.integers(self.length))
        return self.observe(), {}

    def step(self, action: int | np.integer):
        direction = 1 if action == 1 else -1
        if self.np_random.random() < self.slip:  # drawn always: what a seed gives stays what it was
            direction = -direction
        self._state += direction
        left = not 0 <= self._state < self.length
        reward = direction * (self.exit_reward if left else self.step_reward)
        return self.observe(), self.noisy(reward, self.reward_noise), left, False, {}

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return ["left", "right"]

    def observe(self) -> np.ndarray:
        return (np.arange(self.length) == self._state).astype(np.float32)

    def transition_model(self) -> TransitionModel:
        """Probabilities and rewards of every move, float64."""
        probs = np.zeros((self.length, 2, self.length + 1))
        reward = np.zeros_like(probs)
        for state in range(self.length):
            for direction in (-1, 1):
                successor = state + direction if 0 <= state + direction < self.length else self.length
                size = self.exit_reward if successor == self.length else self.step_reward
                intended = int(direction == 1)
                probs[state, intended, successor] = 1.0 - self.slip
                probs[state, 1 - intended, successor] = self.slip
                reward[state, :, successor] = direction * size
        obs = np.eye(self.length + 1, self.length, dtype=np.float32)
        start = np.full(self.length, 1 / self.length)
        return TransitionModel(probs, reward, np.arange(self.length + 1) == self.length, obs, start)

    def optimal_q(self, gamma: float) -> np.ndarray:
        """Q*, float64 [S, A], see `envs.dynamic_programming`."""
        return optimal_q(self.transition_model(), gamma)


def check_noise(reward_noise: float) -> None:
    """Refuse a negative one."""
    if reward_noise < 0:
        raise ValueError(f"reward_noise is {reward_noise}, wanted at least 0")


class Identity(ToyEnv):
    """One step: name the class that is shown.

    Observation: one-hot float32 [num_actions], all 0 after the step. Reward 1 for the action that matches,
    else 0. After the identity environments in the tests of Stable-Baselines3.

    Raises:
        ValueError: num_actions < 2.
    """

    return_range = (0.0, 1.0)

    def __init__(self, num_actions: int = 4, render_mode: str | None = None):
        super().__init__(render_mode)
        if num_actions < 2:
            raise ValueError(f"num_actions is {num_actions}, wanted at least 2")
        self.num_actions = num_actions
        self.observation_space = Box(0.0, 1.0, (num_actions,), np.float32)
        self.action_space = Discrete(num_actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._shown: int | None = int(self.np_random.integers(self.num_actions))
        return self.observe(), {}

    def step(self, action: int | np.integer):
        reward = 1.0 if action == self._shown else 0.0
        self._shown = None
        return self.observe(), reward, True, False, {}

    def observe(self) -> np.ndarray:
        obs = np.zeros(self.num_actions, np.float32)
        if self._shown is not None:
            obs[self._shown] = 1.0
        return obs


class Recall(ToyEnv):
    """A cue is shown at the start of a corridor, and asked for at its end: nothing but memory helps.

    Observation: float32 [num_cues + 1], one-hot of the cue at the first step, only the last entry at the last step,
    where the question is asked, and all 0 between them. Every action walks on; the one of the last step is the
    answer, and action i answers cue i. Reward: at the last of `length` steps +1 for the right answer, -1 for another;
    0 before it. Best play gets 1. Without a memory all cues get the same answers, so that the mean is
    2 / num_cues - 1 whatever one does. After the idea of Memory Length in bsuite (Osband et al., 2020).

    Raises:
        ValueError: num_cues < 2 or length < 2.
    """

    return_range = (-1.0, 1.0)

    def __init__(self, num_cues: int = 4, length: int = 10, render_mode: str | None = None):
        super().__init__(render_mode)
        if num_cues < 2 or length < 2:
            raise ValueError(f"num_cues is {num_cues} and length is {length}, wanted at least 2 each")
        self.num_cues, self.length = num_cues, length
        self.observation_space = Box(0.0, 1.0, (num_cues + 1,), np.float32)
        self.action_space = Discrete(num_cues)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(self.num_cues))
        self._at = 0
        return self.observe(), {}

    def step(self, action: int | np.integer):
        self._at += 1
        answered = self._at == self.length
        reward = (1.0 if action == self._cue else -1.0) if answered else 0.0
        return self.observe(), reward, answered, False, {}

    def observe(self) -> np.ndarray:
        obs = np.zeros(self.num_cues + 1, np.float32)
        if self._at == 0:
            obs[self._cue] = 1.0
        elif self._at == self.length - 1:
            obs[-1] = 1.0
        return obs

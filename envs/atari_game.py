"""One Atari game, frame for frame what the games of `envs.atari` are, with pictures, modes and difficulties.

S frames of a stack, size x size pixels each; H x W pixels of the screen.
"""

from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from gymnasium.spaces import Box, Discrete

from envs.ale import SEED_LIMIT, rom_name
from envs.area_resize import AreaResize
from envs.atari_protocol import PROTOCOLS, AtariProtocol
from envs.gymnasium_vector import GymnasiumVector

EMULATOR_FPS = 60


class AtariGame(gymnasium.Env):
    """Observations are stacks of frames, uint8 [S, size, size], oldest first; after a reset all but the newest are 0.

    With the same seed and actions it gives the bytes that ALE's vector environment gives, sticky actions and no-ops
    included (the number of no-ops as of ALE's Linux builds). Rewards are raw. A frame is the brighter of the last two
    screens of a step, pixel by pixel; ALE does not take the screen with which a game ends, so that the last frame of
    an episode pools older ones, and here too.

    `info` holds `lives`, `life_lost` (a life was lost and the game goes on; only ever True if the protocol says
    `life_loss`), `frame_number` and `episode_frame_number`.

    Args:
        env_id: an id such as `ALE/Pong-v5`.
        protocol: see `envs.atari_protocol`.
        render_mode: `rgb_array`, or None.

    Raises:
        UnknownEnvironment: there is no such game.
        ValueError: unknown render mode, or mode or difficulty of the game; frames larger than the screen.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": EMULATOR_FPS}

    def __init__(
        self,
        env_id: str,
        *,
        protocol: AtariProtocol = PROTOCOLS["machado"],
        render_mode: str | None = None,
    ):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, wanted 'rgb_array' or None")
        self.protocol, self.render_mode = protocol, render_mode
        self.metadata = {**self.metadata, "render_fps": EMULATOR_FPS / protocol.frame_skip}
        self._rom = str(roms.get_rom_path(rom_name(env_id)))
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", protocol.repeat_action_probability)
        self._load_game()
        full = protocol.full_action_space
        self._meanings = self._ale.getLegalActionSet() if full else self._ale.getMinimalActionSet()
        self.action_space = Discrete(len(self._meanings))
        screen, size = self._ale.getScreenDims(), (protocol.size, protocol.size)
        self._resize = AreaResize(screen, size)
        self._pooled = np.zeros(screen, np.uint8)  # [H, W], the newest frame, before the end of a step its last screen
        self._screen_before = np.zeros(screen, np.uint8)  # [H, W], the last screen but one of a step
        self._stack = np.zeros((protocol.frame_stack, *size), np.uint8)
        self.observation_space = Box(0, 255, self._stack.shape, np.uint8)
        self._frames = 0  # since the end of the no-ops
        self._rng: np.random.RandomState | None = None  # draws the no-ops
        self._running = self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game; without a seed go on with the random numbers of the one before.

        Raises:
            RuntimeError: the environment is closed.
        """
        self._require_open()
        super().reset(seed=seed)
        if seed is None and self._rng is None:
            seed = int(self.np_random.integers(SEED_LIMIT))
        if seed is not None:
            self._rng = np.random.RandomState(seed % SEED_LIMIT)
            self._ale.setInt("random_seed", seed % SEED_LIMIT)
            self._load_game()  # only this makes ALE look at its seed
        self._ale.reset_game()
        if self.protocol.noop_max and self._rng is not None:
            self._take_no_ops(self._rng)
        self._ale.getScreenGrayscale(self._pooled)
        self._screen_before[:] = 0
        self._stack[:] = 0
        self._push_frame()
        self._frames, self._running = 0, True
        return self._stack.copy(), self._info(life_lost=False)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Repeat one action for `frame_skip` frames, fewer where the game ends before.

        Args:
            action: in 0 .. A - 1.

        Raises:
            TypeError: the action is no integer.
            ValueError: it is out of range.
            RuntimeError: the environment is closed, its game is over, or `reset` was never called.
        """
        self._require_open()
        meaning = self._meanings[self._checked(action)]
        if not self._running:
            raise RuntimeError("no game is going on: call reset before step")
        lives, reward, terminated, truncated = self._ale.lives(), 0, False, False
        for left in reversed(range(self.protocol.frame_skip)):
            reward += self._ale.act(meaning)
            self._frames += 1
            terminated = self._ale.game_over()
            truncated = self._frames >= self.protocol.max_frames and not terminated
            if terminated or truncated:
                break
            if left < 2:
                self._ale.getScreenGrayscale(self._screen_before if left else self._pooled)
        self._push_frame()
        self._running = not (terminated or truncated)
        lost = self.protocol.life_loss and self._running and self._ale.lives() < lives
        return self._stack.copy(), float(reward), terminated, truncated, self._info(life_lost=lost)

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The screen in colours, uint8 [H, W, 3]; None without a render mode.

        Raises:
            RuntimeError: the environment is closed.
        """
        self._require_open()
        return None if self.render_mode is None else self._ale.getScreenRGB()

    def close(self) -> None:
        self._closed = True

    def get_action_meanings(self) -> list[str]:
        """What each action presses, such as NOOP, FIRE, UPLEFT."""
        return [meaning.name for meaning in self._meanings]

    def _load_game(self) -> None:
        self._ale.loadROM(self._rom)
        for name, value, choices, choose in (
            ("mode", self.protocol.mode, self._ale.getAvailableModes(), self._ale.setMode),
            ("difficulty", self.protocol.difficulty, self._ale.getAvailableDifficulties(), self._ale.setDifficulty),
        ):
            if value is None:
                continue
            if value not in choices:
                raise ValueError(f"{name} is {value}, this game has {', '.join(map(str, choices))}")
            choose(value)

    def _take_no_ops(self, rng: np.random.RandomState) -> None:
        # 0 .. noop_max - 1, from the top bits as C++'s uniform_int_distribution does it: numpy's rule is another
        for _ in range(int(rng.randint(2**32, dtype=np.uint32)) * self.protocol.noop_max >> 32):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()

    def _push_frame(self) -> None:
        # in place: a step that ends early pools what this one leaves behind
        np.maximum(self._pooled, self._screen_before, out=self._pooled)
        self._stack[:-1] = self._stack[1:]
        self._stack[-1] = self._resize(self._pooled)

    def _info(self, *, life_lost: bool) -> dict[str, Any]:
        return {
            "lives": self._ale.lives(),
            "life_lost": life_lost,
            "frame_number": self._ale.getFrameNumber(),
            "episode_frame_number": self._ale.getEpisodeFrameNumber(),
        }

    def _checked(self, action: Any) -> int:
        array = np.asarray(action)
        if array.dtype.kind not in "iu" or array.shape != ():
            raise TypeError(f"the action is {action!r}, wanted one integer")
        if not 0 <= array < len(self._meanings):
            raise ValueError(f"action {action} is out of range, wanted 0 .. {len(self._meanings) - 1}")
        return int(array)

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed")


def game_vector(
    env_id: str,
    *,
    num_envs: int = 1,
    seed: int = 0,
    max_steps: int | None = None,
    protocol: AtariProtocol = PROTOCOLS["machado"],
    render_mode: str | None = None,
) -> GymnasiumVector:
    """Single games one after the other, where `envs.atari.AtariVector` has no mode, difficulty or picture."""
    games = [AtariGame(env_id, protocol=protocol, render_mode=render_mode) for _ in range(num_envs)]
    vector = GymnasiumVector(games, seed=seed, max_steps=max_steps)
    vector.frame_stack, vector.frames_per_step = protocol.frame_stack, protocol.frame_skip
    return vector

"""Pictures of an environment: what it draws of itself, or else the newest frame of an observation that is an image.

H height, W width, C channels, S frames of a stack.
"""

import colorsys
import os
import warnings

import gymnasium
import numpy as np

from agents.config import RunConfig
from agents.running.evaluation import make_evaluation_env
from agents.tables import ConfigError
from envs import VectorEnv

SMALLEST = 4  # cells on a side, from which on an array of numbers is looked at as an image


def make_watched_env(config: RunConfig, *, seed: int) -> VectorEnv:
    """One environment of a run, drawing itself if it can."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen, and does not complain of none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's, about a render mode that an environment does not announce
        try:
            return make_evaluation_env(config, num_envs=1, seed=seed, render_mode="rgb_array")
        except (TypeError, ValueError, gymnasium.error.Error):  # it takes no render mode, or not this one
            pass
    return make_evaluation_env(config, num_envs=1, seed=seed)


class Camera:
    """Takes pictures of the first environment of a vector."""

    def __init__(self, venv: VectorEnv, env_id: str):
        self.venv, self.env_id = venv, env_id
        self.failed: Exception | None = None  # why the environment's own drawing is not to be had

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The environment as it is now, uint8 [H, W, 3], with its observations [N, *shape].

        Raises:
            ConfigError: it neither draws itself nor is its observation an image.
        """
        picture = self.rendered()
        if picture is None:
            space = self.venv.observation_space
            low, high = float(space.low.min()), float(space.high.max())
            picture = picture_of(obs[0], low, high, stacked=self.venv.frame_stack is not None)
        if picture is None:
            shape = list(self.venv.observation_space.shape)
            because = "" if self.failed is None else f"; drawing it failed: {self.failed}"
            raise ConfigError(
                f"{self.env_id} cannot be watched: wanted an environment that renders (render_mode 'rgb_array') or "
                f"has image observations, and its observations are {shape}{because}"
            )
        return picture

    def rendered(self) -> np.ndarray | None:
        """What the environment draws of itself, uint8 [H, W, 3]; None where it draws nothing."""
        if self.failed is not None:
            return None
        try:
            picture = self.venv.render(0)
        except Exception as error:  # drawing needs packages, whose absence shows as this or that: pygame's, seaborn's
            self.failed = error
            return None
        if picture is None:
            return None
        return picture_of(picture, 0.0, 1.0 if picture.dtype.kind == "f" and picture.max(initial=0) <= 1 else 255.0)


def picture_of(array: np.ndarray, low: float, high: float, *, stacked: bool = False) -> np.ndarray | None:
    """An observation of one environment as uint8 [H, W, 3]; None where it is no image.

    [H, W] is grey, 3 channels are red, green and blue; other channels get a hue each, except that those of bytes
    [C, H, W] are taken as frames, of which the last is the newest.

    Args:
        array: [H, W], [C, H, W] or [H, W, C]; with `stacked` an axis S before these.
        low, high: bounds of its numbers; where they are infinite, the numbers in `array` decide.
    """
    newest = array[-1] if stacked else array
    if newest.ndim == 3 and newest.shape[0] < min(newest.shape[1:]):
        are_frames = newest.dtype == np.uint8 and newest.shape[0] != 3
        newest = newest[-1] if are_frames else np.moveaxis(newest, 0, -1)
    if newest.ndim not in (2, 3) or min(newest.shape[:2]) < SMALLEST:
        return None
    if not np.isfinite([low, high]).all() or low >= high:
        low, high = float(newest.min()), float(newest.max())
    shade = (newest.astype(np.float64) - low) / max(high - low, 1e-12)
    if shade.ndim == 2:
        shade = shade[..., None]
    if shade.shape[-1] == 1:
        shade = np.repeat(shade, 3, axis=-1)
    elif shade.shape[-1] != 3:
        count = shade.shape[-1]
        hues = np.array([colorsys.hsv_to_rgb(c / count, 0.6, 1.0) for c in range(count)])  # [C, 3]
        shade = (shade[..., None] * hues).max(axis=-2)
    return (shade.clip(0, 1) * 255).round().astype(np.uint8)

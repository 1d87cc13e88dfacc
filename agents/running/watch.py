"""A clip of a policy at play, with what it predicts: `classyq watch`.

A actions, K atoms, H height, W width.
"""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from agents.running import drawing
from agents.running.camera import Camera, make_watched_env
from agents.running.clip import NEGLIGIBLE, Clip, Played, record
from agents.running.drawing import Look, Moment
from agents.running.evaluation import Policy, load
from agents.running.metrics import write_image
from agents.seeding import child_seed
from agents.tables import ConfigError

MAX_ROWS = 24  # actions drawn; of more, those that the clip takes most often
TAG = "watch/episode"


class Watched(NamedTuple):
    """What `watch` made."""

    path: Path
    num_bytes: int
    num_pictures: int
    played: list[Played]
    step: int | None  # of training, that the policy is from


def watch(
    run_dir: Path,
    out: Path | None = None,
    *,
    episodes: int = 1,
    start: int = 0,
    steps: int = 500,
    seed: int = 0,
    epsilon: float = 0.0,
    fps: float = 10.0,
) -> Watched:
    """Play with the best policy of a run; write a GIF, to `out` and as an image into the run's TensorBoard.

    Args:
        out: a name ending in .gif; run_dir/watch.gif without one.
        start, steps: which decisions are drawn: `steps` at most, from number `start` on.
        epsilon: share of random actions.
        fps: decisions shown in a second.

    Raises:
        CheckpointError: the run has no policy.
        ConfigError: nothing can be drawn of its environment, `out` cannot be written, or the episodes end before
            `start`.
    """
    out = check_out(run_dir / "watch.gif" if out is None else out)
    policy = load(run_dir)
    seed = child_seed(seed, "watch command")
    with contextlib.closing(make_watched_env(policy.config, seed=seed)) as venv:
        camera, rng = Camera(venv, policy.config.env.id), np.random.default_rng(seed)
        clip = record(policy, venv, camera, rng, episodes=episodes, start=start, steps=steps, epsilon=epsilon)
    look = look_of(clip, policy, start)
    data = gif((drawing.draw(moment, look) for moment in clip.moments), clip.moments, fps)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"--out: {error}") from error
    write_image(run_dir, TAG, policy.step or 0, data, (drawing.WIDTH, drawing.HEIGHT))
    return Watched(out, len(data), len(clip.moments), clip.played, policy.step)


def check_out(path: Path) -> Path:
    """`path`, if a GIF can be there.

    Raises:
        ConfigError: it has another suffix, or its directory is missing.
    """
    if path.suffix.lower() != ".gif":
        raise ConfigError(f"--out {path}: wanted a name that ends in .gif")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no directory {path.parent}")
    return path


def look_of(clip: Clip, policy: Policy, start: int) -> Look:
    """What the pictures of a clip have in common."""
    config, num_actions = policy.config, len(clip.moments[0].names)
    counts = np.bincount([moment.action for moment in clip.moments], minlength=num_actions)
    rows = sorted(np.argsort(-counts, kind="stable")[:MAX_ROWS].tolist())
    clipped = "" if config.agent.reward_clip is None else f", rewards clipped to ±{config.agent.reward_clip:g}"
    scaled = f", rewards x {policy.reward_factor:.3g}" if policy.reward_factor != 1 else ""
    bootstrapped = " (where it was cut: with the value predicted there)" if clip.borrowed.max() > NEGLIGIBLE else ""
    return Look(
        title=config.env.id,
        subtitle=f"{config.agent.name} + {config.head.name}, policy of step {policy.step or 0:,}",
        unit=f"discounted return (gamma {config.agent.gamma:g}{clipped}{scaled})",
        value_range=value_range(clip.moments),
        rows=rows,
        predicted=clip.predicted,
        realised=clip.realised,
        realised_label=f"realised return{bootstrapped}",
        ends=clip.ends,
        first=start,
    )


def value_range(moments: Sequence[Moment], tail: float = 0.01) -> tuple[float, float]:
    """Where all predictions of a clip lie but for a mass of `tail` at each end, somewhat widened."""
    low, high = math.inf, -math.inf
    for moment in moments:
        values, order = moment.atoms.values.double().sort(-1)
        mass = moment.atoms.probs.double().gather(-1, order).cumsum(-1)
        inner = values[(mass > tail) & (mass - moment.atoms.probs.double().gather(-1, order) < 1 - tail)]
        low = min(low, float(inner.min()), float(moment.q_values.min()))
        high = max(high, float(inner.max()), float(moment.q_values.max()))
    return drawing.padded(low, high)


def gif(pictures: Iterable[Image.Image], moments: Sequence[Moment], fps: float) -> bytes:
    """An endless GIF of one picture for each moment, `fps` in a second, and 1.5 s for the end of an episode."""
    palette = palette_of([m.picture for m in moments[:: max(1, len(moments) // 16)]])
    frames = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    each = max(20, round(100 / fps) * 10)  # milliseconds; a GIF counts hundredths, and browsers refuse less than two
    durations = [max(each, 1500) if m.over or m is moments[-1] else each for m in moments]
    data = io.BytesIO()
    next(frames).save(data, "GIF", save_all=True, append_images=frames, duration=durations, loop=0)
    return data.getvalue()


def palette_of(scenes: Sequence[np.ndarray]) -> Image.Image:
    """256 colours for all pictures: every shade of the text and the bars, and those that suit the scenes [H, W, 3]."""
    grounds = (drawing.BACKGROUND, drawing.PANEL)
    inks = (drawing.TEXT, drawing.MUTED, drawing.CHOSEN, drawing.OTHER, drawing.REALISED)
    shades = [drawing.GRID] + [
        tuple(round(a + (b - a) * share) for a, b in zip(ground, ink, strict=True))
        for ground in grounds
        for ink in inks
        for share in np.linspace(0, 1, 7)
    ]
    shades = list(dict.fromkeys(shades))
    pixels = np.concatenate([scene.reshape(-1, 3) for scene in scenes])[None]
    found = Image.fromarray(pixels).quantize(256 - len(shades), Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(channel for shade in shades for channel in shade), *found])
    return palette

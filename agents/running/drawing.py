"""Pictures of a decision: the environment, the return distribution of every action on its real axis, and the value of
the chosen action over time beside the return that followed.

A actions, K atoms, m bars, T decisions. Boxes are (left, top, right, bottom) in pixels.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from value_heads import Atoms

Box = tuple[int, int, int, int]
BACKGROUND, PANEL, GRID = (22, 26, 32), (29, 34, 42), (52, 60, 71)
TEXT, MUTED = (222, 227, 233), (142, 153, 166)
OTHER, CHOSEN, REALISED = (92, 116, 144), (242, 176, 76), (92, 200, 190)
NUM_BARS = 60  # of atoms that lie anywhere


class Axis(NamedTuple):
    """A linear map from values to pixels: `low` is at pixel `start`, `high` at pixel `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def pixel(self, value: float) -> float:
        """Where `value` is, outside of start .. stop too."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def inside(self, value: float) -> int:
        """The nearest whole pixel within start .. stop."""
        low, high = sorted((self.start, self.stop))
        return round(min(max(self.pixel(value), low), high))

    def ticks(self, most: int = 7) -> list[float]:
        """At most `most` values within the axis, 1, 2 or 5 times a power of ten apart."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        for factor in (1, 2, 5, 10, 20):
            step = factor * power
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                break
        return [n * step for n in range(first, last + 1)]

    def text(self, value: float, *, digits: int) -> str:
        """A number to `digits` digits of the length of the axis."""
        decimals = max(0, digits - 1 - math.floor(math.log10(self.high - self.low)))
        return f"{value:.{decimals}f}"


def bars(atoms: Atoms, axis: Axis) -> tuple[np.ndarray, np.ndarray] | None:
    """(edges [m+1], mass [A, m]) of atoms [A, K]; None where each is a single value.

    Atoms that are the same and increasing for all actions (a bin head) each have the bar around them, others are
    counted in `NUM_BARS` even bars over the axis.
    """
    values, probs = atoms.values.double().cpu().numpy(), atoms.probs.double().cpu().numpy()
    if values.shape[-1] == 1:
        return None
    if (values == values[0]).all() and (np.diff(values[0]) > 0).all():
        middle = (values[0][1:] + values[0][:-1]) / 2
        return np.array([2 * values[0][0] - middle[0], *middle, 2 * values[0][-1] - middle[-1]]), probs
    edges = np.linspace(axis.low, axis.high, NUM_BARS + 1)
    return edges, np.stack([np.histogram(v, edges, weights=p)[0] for v, p in zip(values, probs, strict=True)])


class Moment(NamedTuple):
    """What one picture shows: a decision, or with `over` what the last decision of an episode led to."""

    picture: np.ndarray  # uint8 [height, width, 3]
    names: Sequence[str]  # [A]
    atoms: Atoms  # predicted, [A, K]
    q_values: np.ndarray  # [A]
    action: int
    at: int  # which decision of the clip
    headline: str  # on the right
    over: bool = False


class Look(NamedTuple):
    """What all pictures of a clip have in common."""

    title: str
    subtitle: str
    unit: str  # of the axis of returns
    value_range: tuple[float, float]  # drawn of that axis
    rows: Sequence[int]  # the actions that are drawn
    predicted: np.ndarray  # [T], of the chosen action
    realised: np.ndarray  # [T]
    realised_label: str
    ends: np.ndarray  # [T] bool, an episode ends with this decision
    first: int  # number of the first decision


WIDTH, MARGIN, HEADER, SCENE, LABELS, PLOT = 900, 20, 66, (330, 400), 150, 130
HEIGHT = HEADER + SCENE[1] + 56 + PLOT + 46


def draw(moment: Moment, look: Look) -> Image.Image:
    """One picture, WIDTH x HEIGHT pixels."""
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    write(canvas, (MARGIN, 16), look.title, size=20)
    write(canvas, (MARGIN, 42), look.subtitle, fill=MUTED)
    write(canvas, (WIDTH - MARGIN, 16), moment.headline, size=20, anchor="ra")
    scene = fit(Image.fromarray(moment.picture), SCENE)
    x, y = MARGIN + (SCENE[0] - scene.width) // 2, HEADER + (SCENE[1] - scene.height) // 2
    image.paste(scene, (x, y))
    canvas.rectangle((x - 1, y - 1, x + scene.width, y + scene.height), outline=GRID)
    left = MARGIN + SCENE[0] + 24
    draw_distributions(canvas, (left, HEADER, WIDTH - MARGIN, HEADER + SCENE[1]), moment, look)
    draw_values(canvas, (MARGIN + 50, HEIGHT - 46 - PLOT, WIDTH - MARGIN, HEIGHT - 46), moment, look)
    return image


def draw_distributions(canvas: ImageDraw.ImageDraw, box: Box, moment: Moment, look: Look) -> None:
    """A row for each action: its name, its Q-value, and its distribution or a line at its value.

    The height of a bar is its mass; the tallest of all actions fills its row, so that heights compare between rows.
    """
    left, top, right, bottom = box
    axis = Axis(*look.value_range, left + LABELS, right - 1)
    row = min(110, (bottom - top) // len(look.rows))
    top += (bottom - top - row * len(look.rows)) // 2
    foot = top + row * len(look.rows)
    canvas.rectangle((axis.start, top, axis.stop, foot), fill=PANEL)
    for value in axis.ticks():
        x = axis.inside(value)
        canvas.line((x, top, x, foot + 4), fill=GRID)
        write(canvas, (x, foot + 6), f"{value:g}", fill=MUTED, anchor="ma")
    write(canvas, ((axis.start + axis.stop) / 2, foot + 24), look.unit, fill=MUTED, anchor="ma")
    drawn = bars(moment.atoms, axis)
    tallest = 0.0 if drawn is None else float(drawn[1].max())
    if drawn is not None:
        write(canvas, (axis.stop, foot - row * len(look.rows) - 4), f"tallest bar {tallest:.2g}", 12, MUTED, "rd")
    size = min(15, row - 3)
    for place, action in enumerate(look.rows):
        base, chosen = top + (place + 1) * row - 1, action == moment.action
        color = CHOSEN if chosen else OTHER
        if drawn is not None:
            draw_bars(canvas, drawn[0], drawn[1][action] / max(tallest, 1e-12) * (row * 0.88), axis, base, color)
        canvas.line((axis.start, base, axis.stop, base), fill=GRID)
        x = axis.inside(float(moment.q_values[action]))
        mark = color if drawn is None else TEXT
        canvas.line((x, base - row + 4, x, base - 1), fill=mark, width=3 if drawn is None else 1)
        middle, shade = base - row / 2 + 1, CHOSEN if chosen else TEXT
        write(canvas, (left, middle), moment.names[action], size, shade, "lm")
        number = axis.text(float(moment.q_values[action]), digits=4)
        write(canvas, (axis.start - 10, middle), number, size, shade, "rm")


def draw_bars(
    canvas: ImageDraw.ImageDraw,
    edges: np.ndarray,
    heights: np.ndarray,
    axis: Axis,
    base: int,
    color: tuple[int, int, int],
) -> None:
    """Bars of `heights` [m] pixels that stand on the row of pixels `base`, between `edges` [m+1] in values."""
    for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
        start, stop, tall = axis.inside(low), axis.inside(high), round(height)
        if tall > 0 and stop > start:
            gap = 1 if stop - start > 3 else 0
            canvas.rectangle((start, base - tall, stop - 1 - gap, base - 1), fill=color)


def draw_values(canvas: ImageDraw.ImageDraw, box: Box, moment: Moment, look: Look) -> None:
    """The value of the chosen action over time up to this moment, and the return that followed it."""
    left, top, right, bottom = box
    both = np.concatenate([look.predicted, look.realised])
    across = Axis(look.first, look.first + max(len(look.predicted) - 1, 1), left + 4, right - 5)
    up = Axis(*padded(float(both.min()), float(both.max())), bottom - 4, top + 4)
    canvas.rectangle((left, top, right - 1, bottom), fill=PANEL)
    for value in up.ticks(5):
        y = up.inside(value)
        canvas.line((left, y, right - 1, y), fill=GRID)
        write(canvas, (left - 8, y), f"{value:g}", fill=MUTED, anchor="rm")
    for value in across.ticks(12):
        if value == int(value):
            write(canvas, (across.inside(value), bottom + 6), f"{value:g}", fill=MUTED, anchor="ma")
    write(canvas, (right, bottom + 24), "decision", fill=MUTED, anchor="ra")
    now = look.first + moment.at
    canvas.line((across.inside(now), top, across.inside(now), bottom), fill=MUTED)
    x = left
    legend = ((look.realised, REALISED, look.realised_label), (look.predicted, CHOSEN, "value of the chosen action"))
    for series, color, label in legend:
        points = [(across.inside(look.first + i), up.inside(v)) for i, v in enumerate(series[: moment.at + 1])]
        cuts = [i + 1 for i in np.flatnonzero(look.ends[: moment.at + 1])]
        for begin, end in zip([0, *cuts], [*cuts, len(points)], strict=True):
            if end - begin > 1:
                canvas.line(points[begin:end], fill=color, width=2, joint="curve")
        here = points[-1]
        canvas.ellipse((here[0] - 3, here[1] - 3, here[0] + 3, here[1] + 3), fill=color)
        canvas.line((x, top - 15, x + 18, top - 15), fill=color, width=3)
        write(canvas, (x + 24, top - 15), label, anchor="lm")
        x += 24 + round(canvas.textlength(label, font(14))) + 24


def padded(low: float, high: float) -> tuple[float, float]:
    """A range somewhat wider, and never empty."""
    margin = 0.05 * (high - low) if high - low > 1e-9 * max(1.0, abs(high)) else max(0.5, 0.05 * abs(high))
    return low - margin, high + margin


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture as large as fits into `size`, enlarged by whole numbers only, so that pixels stay squares."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    if scale >= 1:
        return picture.resize((picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST)
    shape = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(shape, Image.Resampling.BOX)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def write(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int = 14,
    fill: tuple[int, int, int] = TEXT,
    anchor: str = "la",
) -> None:
    """Text at `place`, of which `anchor` says what part of it is there."""
    canvas.text(place, text, fill=fill, font=font(size), anchor=anchor)

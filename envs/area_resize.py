"""Shrinking a picture by averaging over areas, to the same bytes as OpenCV's INTER_AREA.

H x W source, h x w result. Every result pixel is the mean of the source pixels it covers, those at its border counted
by the covered part.
"""

import math
from typing import NamedTuple

import numpy as np


class _Axis(NamedTuple):
    """For each of n result pixels along one axis the T source pixels under it, unused places with weight 0."""

    sources: np.ndarray  # [T, n] int64
    weights: np.ndarray  # [T, n] float32


class AreaResize:
    """Resizes uint8 pictures of one shape to another.

    out[y, x] = round(sum_j b[j, y] * sum_i a[i, x] * picture[y_j, x_i]), with float32 products summed in the order of
    the source pixels and halves rounded to even, because float32 sums in another order round to other bytes.

    Args:
        source: (H, W) of the pictures.
        target: (h, w) of the results, 1 <= h <= H and 1 <= w <= W.

    Raises:
        ValueError: `target` is larger than `source`, or less than 1.

    Source: resize.cpp of OpenCV 5.0, computeResizeAreaTab and ResizeArea_Invoker. Where H/h and W/w are both whole
        numbers OpenCV sums integers instead, which this does not imitate.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]):
        if not all(1 <= small <= large for large, small in zip(source, target, strict=True)):
            raise ValueError(f"cannot shrink {source[0]} x {source[1]} to {target[0]} x {target[1]}")
        self._source = source
        self._rows, self._columns = (_axis(*lengths) for lengths in zip(source, target, strict=True))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The picture in its new size, uint8 [h, w], from uint8 [H, W].

        Raises:
            TypeError: the picture is not uint8.
            ValueError: it does not have the source's shape.
        """
        if picture.dtype != np.uint8:
            raise TypeError(f"the picture has dtype {picture.dtype}, wanted uint8")
        if picture.shape != self._source:
            raise ValueError(f"the picture has shape {picture.shape}, wanted {self._source}")
        narrow = _weighted(picture.astype(np.float32).T, self._columns)  # [w, H]
        small = _weighted(narrow.T, self._rows)  # [h, w]
        return np.rint(small).astype(np.uint8)


def _axis(source: int, target: int) -> _Axis:
    scale = source / target
    taps = [_taps(place, scale, source) for place in range(target)]
    num_taps = max(len(pixel) for pixel in taps)
    padded = [pixel + [(0, 0.0)] * (num_taps - len(pixel)) for pixel in taps]
    index, weight = zip(*(zip(*pixel, strict=True) for pixel in padded), strict=True)
    return _Axis(np.array(index).T, np.array(weight, dtype=np.float32).T)


def _taps(place: int, scale: float, source: int) -> list[tuple[int, float]]:
    """Source pixels under one result pixel, each with its share of it."""
    start, end = place * scale, (place + 1) * scale
    width = min(scale, source - start)
    first, last = math.ceil(start), math.floor(end)
    last = min(last, source - 1)
    first = min(first, last)
    taps = [(pixel, 1.0 / width) for pixel in range(first, last)]
    if first - start > 1e-3:  # OpenCV leaves out what is thinner than this
        taps.insert(0, (first - 1, (first - start) / width))
    if end - last > 1e-3:
        taps.append((last, min(min(end - last, 1.0), width) / width))
    return taps


def _weighted(lines: np.ndarray, axis: _Axis) -> np.ndarray:
    """Sums of whole lines: [n, L] from [N, L]."""
    total = lines[axis.sources[0]] * axis.weights[0][:, None]
    for index, weight in zip(axis.sources[1:], axis.weights[1:], strict=True):
        total += lines[index] * weight[:, None]
    return total

"""Augmentation: images that are learned from are shifted and made brighter or darker at random, each on its own.

B batch, K steps of the future; an image is [C, H, W], and its C frames are changed alike.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.networks.base import as_floats, is_image


class Augmentation:
    """x(c, i, j) -> (1 + intensity * clip(z, -2, 2)) * x(c, i + dy, j + dx) with normal z and uniform dy, dx.

    dy and dx are integers within +-shift_pixels, and beyond an edge is its last pixel: a shift is the random crop of
    an image padded by repetition. Bytes become [0, 1] first, as in `QNetwork`. Source: Yarats et al. 2021 (DrQ), with
    the brightness of Schwarzer et al. 2021 (SPR); both as in Schwarzer et al. 2023 (BBF), whose crop never takes
    the last of the 2 * shift_pixels + 1 places.

    Args:
        obs_shape: of an observation, which must be [C, H, W].
        shift_pixels: the largest shift.
        intensity: deviation of the factor, up to the clipping.

    Raises:
        ValueError: for observations that are no images.
    """

    def __init__(self, obs_shape: Sequence[int], *, shift_pixels: int, intensity: float):
        if not is_image(obs_shape):
            raise ValueError(
                f"augmentation wants images [C, H, W] with no more channels than rows and columns, "
                f"got observations {tuple(obs_shape)}: leave the table out"
            )
        self.shift_pixels, self.intensity = shift_pixels, intensity

    def __call__(self, batch: Any, generator: torch.Generator) -> Any:
        """The batch with its observations changed, those before, after and in the future each in their own way."""
        changed = {"obs": self.change(batch.obs, generator), "next_obs": self.change(batch.next_obs, generator)}
        if batch.future_obs is not None:
            future = self.change(batch.future_obs.flatten(0, 1), generator)
            changed["future_obs"] = future.unflatten(0, batch.future_obs.shape[:2])
        return batch._replace(**changed)

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, C, H, W], bytes or numbers, as float32."""
        size, device = len(images), images.device
        shape = (2, size, 1)
        shift = torch.randint(-self.shift_pixels, self.shift_pixels + 1, shape, generator=generator, device=device)
        factor = 1 + self.intensity * torch.randn(size, generator=generator, device=device).clamp(-2, 2)
        rows, columns = (
            (torch.arange(length, device=device) + by).clamp(0, length - 1)  # [B, H] and [B, W]
            for length, by in zip(images.shape[2:], shift, strict=True)
        )
        each = torch.arange(size, device=device)[:, None, None]
        moved = images[each, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        return factor[:, None, None, None] * as_floats(moved)

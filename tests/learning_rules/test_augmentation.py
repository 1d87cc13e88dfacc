"""Augmentation against the crop of a padded image, and how its random numbers are distributed.

B batch, K steps of the future; images [C, H, W].
"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from agents.learning.augmentation import Augmentation
from agents.learning.batch import Batch

C, H, W = 2, 9, 7


def images(size, dtype=torch.uint8, seed=0):
    return torch.randint(0, 256, (size, C, H, W), generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_shift_is_a_crop_of_an_image_padded_by_repetition(dtype):
    """Each result is one of the 5 x 5 crops of its own image, the frames of it together, at its own brightness."""
    given = images(200, dtype)
    made = Augmentation((C, H, W), shift_pixels=2, intensity=0.1).change(given, torch.Generator().manual_seed(3))
    assert made.dtype == torch.float32
    unit = given.double() / 255 if dtype == torch.uint8 else given.double()
    padded = functional.pad(unit, (2, 2, 2, 2), mode="replicate")
    places, factors = [], []
    for b in range(200):
        found = []
        for y in range(5):
            for x in range(5):
                crop = padded[b, :, y : y + H, x : x + W]
                factor = (made[b].double() * crop).sum() / (crop * crop).sum()
                if torch.allclose(made[b].double(), factor * crop, rtol=1e-5, atol=1e-6):
                    found.append((y, x, float(factor)))
        assert len(found) == 1
        places.append(found[0][:2])
        factors.append(found[0][2])
    counts = np.bincount([5 * y + x for y, x in places], minlength=25)
    assert (counts > 0).all(), "200 draws of 25 places"
    factors = np.array(factors)
    assert np.abs(factors - 1).max() <= 0.2 + 1e-6, "clipped at two deviations"
    # A normal clipped at two deviations has deviation 0.959; four standard errors of 200 draws.
    assert factors.std() == pytest.approx(0.1 * 0.959, rel=0.2)
    assert factors.mean() == pytest.approx(1, abs=4 * 0.1 / 200**0.5)


def test_without_shift_and_intensity_images_are_only_scaled():
    given = images(3)
    made = Augmentation((C, H, W), shift_pixels=0, intensity=0.0).change(given, torch.Generator())
    assert torch.equal(made, given.float() / 255)


def test_every_observation_of_a_batch_is_changed_on_its_own():
    """The same images before, after and in the future come out differently, by the learner's generator alone."""
    obs, zeros = images(5), torch.zeros(5)
    batch = Batch(obs, zeros.long(), zeros, zeros, obs, zeros, future_obs=torch.stack([obs, obs], 1))
    augmentation = Augmentation((C, H, W), shift_pixels=4, intensity=0.05)
    torch.manual_seed(0)
    a = augmentation(batch, torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    b = augmentation(batch, torch.Generator().manual_seed(1))
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("obs", "next_obs", "future_obs"))
    assert a.future_obs.shape == (5, 2, C, H, W)
    variants = [a.obs, a.next_obs, a.future_obs[:, 0], a.future_obs[:, 1]]
    assert not any(torch.equal(x, y) for i, x in enumerate(variants) for y in variants[:i])
    assert a.action is batch.action
    assert augmentation(batch._replace(future_obs=None), torch.Generator()).future_obs is None


@pytest.mark.parametrize("shape", [(4,), (10, 5), (10, 10, 4)])
def test_what_is_no_image(shape):
    with pytest.raises(ValueError, match=r"augmentation wants images \[C, H, W\] .*: leave the table out"):
        Augmentation(shape, shift_pixels=4, intensity=0.05)

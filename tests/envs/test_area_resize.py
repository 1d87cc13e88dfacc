"""Are shrunken pictures OpenCV's, to the byte?"""

import cv2
import numpy as np
import pytest

from envs.area_resize import AreaResize


def opencv(picture, target):
    return cv2.resize(picture, target[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("colours", [256, 4])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((210, 160), (84, 84)),
        ((250, 160), (84, 84)),  # the screen of some games
        ((210, 160), (42, 42)),
        ((210, 160), (105, 84)),
        ((210, 160), (210, 160)),
        ((7, 5), (3, 4)),
    ],
)
def test_the_bytes_are_those_of_opencv(source, target, colours):
    rng, resize = np.random.default_rng(0), AreaResize(source, target)
    for _ in range(20):  # few grey values give many sums that end in exactly one half
        picture = rng.integers(colours, size=source).astype(np.uint8) * np.uint8(255 // (colours - 1))
        np.testing.assert_array_equal(resize(picture), opencv(picture, target))


def test_a_mean_by_hand():
    # 5 -> 2: each result covers two pixels and a half; (0 + 100 + 50 / 2) / 2.5 and (50 / 2 + 10 + 20) / 2.5
    picture = np.array([[0, 100, 50, 10, 20]], np.uint8)
    assert AreaResize((1, 5), (1, 2))(picture).tolist() == [[50, 22]]
    assert AreaResize((5, 1), (2, 1))(picture.T).tolist() == [[50], [22]]


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_one_colour_stays_one_colour(value):
    assert np.unique(AreaResize((210, 160), (84, 84))(np.full((210, 160), value, np.uint8))) == [value]


@pytest.mark.parametrize("target", [(84, 161), (211, 84), (0, 84)])
def test_only_smaller_pictures_are_made(target):
    with pytest.raises(ValueError, match=rf"cannot shrink 210 x 160 to {target[0]} x {target[1]}"):
        AreaResize((210, 160), target)


def test_pictures_are_checked():
    resize = AreaResize((4, 4), (3, 3))
    with pytest.raises(ValueError, match=r"shape \(4, 5\), wanted \(4, 4\)"):
        resize(np.zeros((4, 5), np.uint8))
    with pytest.raises(TypeError, match="dtype float64, wanted uint8"):
        resize(np.zeros((4, 4)))

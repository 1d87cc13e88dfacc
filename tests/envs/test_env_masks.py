"""Does every mask belong to its observation?"""

from pathlib import Path

import numpy as np
import pytest

from envs import make_vector

WORLDS = Path(__file__).with_name("worlds.py")


def world(name, **options):
    return make_vector(f"{WORLDS}:{name}", **options)


def scripted(**kwargs):
    return make_vector(f"{WORLDS}:Scripted", num_envs=2, kwargs=kwargs)


def legal(venv):
    return venv.action_mask.argmax(axis=1)


def test_arrays_are_fresh():
    touched, untouched = world("Masked", num_envs=2), world("Masked", num_envs=2)
    for array in (touched.reset(), touched.action_mask, touched.state_dict()["envs"][0]["action_mask"]):
        array[0] = 9
    untouched.reset()
    for _ in range(3):
        action = legal(untouched)
        step, wanted = touched.step(action), untouched.step(action)
        done = wanted.done
        for array, truth in zip(step[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(array, truth)
            array[:] = 1
        obs = touched.reset_done(done)
        np.testing.assert_array_equal(obs, untouched.reset_done(done))
        obs[:] = 9
        np.testing.assert_array_equal(touched.action_mask, untouched.action_mask)


def test_masks_belong_to_the_current_observation():
    venv = world("Masked", num_envs=2)
    assert not venv.has_action_mask
    venv.reset()
    assert venv.has_action_mask
    for t in range(9):
        t %= 4
        np.testing.assert_array_equal(venv.action_mask, [[action != t % 3 for action in range(3)]] * 2)
        step = venv.step(legal(venv))
        if t == 3:
            assert step.terminated.all()
            assert venv.action_mask.all()  # none is legal any more
        venv.reset_done(step.terminated)


def test_a_row_without_a_mask_is_all_true():
    venv = world("Masked", kwargs={"mask_at_end": False})
    venv.reset()
    for _ in range(4):
        venv.step(legal(venv))
    assert venv.action_mask.dtype == np.bool_
    assert venv.action_mask.tolist() == [[True] * 3]


def test_no_masks_at_all():
    venv = world("Counter")
    venv.reset()
    assert venv.action_mask is None
    assert not venv.has_action_mask


def test_a_mask_that_comes_late_is_refused():
    venv = world("Masked", kwargs={"mask_at_reset": False})
    venv.reset()
    with pytest.raises(ValueError, match=r"environments \[0\] gave info\['action_mask'\] for the first time"):
        venv.step(np.array([1]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            [1, 1, 1],
            r"environment 0, episode 0, step 1: info\['action_mask'\] has shape \(3,\), wanted \(2,\)",
        ),
        ([1, 2], r"is \[1, 2\], wanted only 0 and 1"),
        ([0, 0], "allows no action, but the episode is not over"),
    ],
)
def test_masks_are_checked(mask, message):
    venv = scripted(info={"action_mask": mask})
    venv.reset()
    with pytest.raises(ValueError, match=message):
        venv.step(np.array([0, 0]))

"""Do vectors of any kind, joined, play what each would have played alone?"""

from pathlib import Path

import numpy as np
import pytest

from envs import JoinedVector, make_vector

WORLDS = Path(__file__).with_name("worlds.py")
KINDS = ["minatar/asterix", "minatar/breakout", "minatar/seaquest", f"{WORLDS}:Masked"]
SIZES = 3, 2  # environments of each vector


def vectors(env_id, seeds=(3, 4)):
    """Begun, and a step on."""
    made = [make_vector(env_id, num_envs=size, seed=seed, max_steps=9) for size, seed in zip(SIZES, seeds, strict=True)]
    for vector in made:
        vector.reset()
        vector.step(legal(vector, np.random.default_rng(0)))
    return made


def legal(vector, rng):
    """Random actions among those that the environments allow."""
    mask = vector.action_mask
    noise = rng.random((vector.num_envs, vector.num_actions))
    return (noise if mask is None else noise * mask).argmax(-1)


def in_parts(values):
    return np.split(values, [SIZES[0]])


def assert_plays_the_same(whole, alone, num_steps=40):
    """Every array of `whole` is those of the vectors alone, one after the other."""
    rng = np.random.default_rng(1)
    for _ in range(num_steps):
        action = legal(whole, rng)
        got, wanted = whole.step(action), [v.step(own) for v, own in zip(alone, in_parts(action), strict=True)]
        for name in got._fields:
            np.testing.assert_array_equal(getattr(got, name), np.concatenate([getattr(step, name) for step in wanted]))
        obs = [vector.reset_done(own.done) for vector, own in zip(alone, wanted, strict=True)]
        np.testing.assert_array_equal(whole.reset_done(got.done), np.concatenate(obs))
        if whole.has_action_mask:
            np.testing.assert_array_equal(whole.action_mask, np.concatenate([v.action_mask for v in alone]))
        else:
            assert whole.action_mask is None


@pytest.mark.parametrize("env_id", KINDS)
def test_what_each_would_have_played(env_id):
    """From the middle of an episode on; what each saves of itself is what it would have saved."""
    alone, members = vectors(env_id), vectors(env_id)
    whole = JoinedVector(members)
    assert (whole.num_envs, whole.num_actions) == (5, alone[0].num_actions)
    assert whole.has_action_mask == env_id.endswith("Masked")
    assert_plays_the_same(whole, alone)
    assert [member.state_dict() for member in members] == [vector.state_dict() for vector in alone]


@pytest.mark.parametrize("env_id", KINDS)
def test_from_the_start_and_from_what_was_saved(env_id):
    alone, whole, other = vectors(env_id), JoinedVector(vectors(env_id)), JoinedVector(vectors(env_id))
    np.testing.assert_array_equal(whole.reset(), np.concatenate([vector.reset() for vector in alone]))
    assert_plays_the_same(whole, alone)
    assert other.load_state_dict(whole.state_dict()) == []
    assert_plays_the_same(other, alone)


def test_those_that_could_not_be_brought_back_are_numbered_through():
    saved, other = (
        JoinedVector([make_vector(f"{WORLDS}:{name}", num_envs=n) for name, n in (("Noisy", 3), ("Unseeded", 2))])
        for _ in range(2)
    )
    saved.reset()
    assert other.load_state_dict(saved.state_dict()) == [3, 4]


def test_pictures_and_the_end():
    whole = JoinedVector([make_vector("catch", num_envs=2, seed=seed, render_mode="rgb_array") for seed in (3, 9)])
    whole.reset()
    for index in range(4):
        own = whole.vectors[index // 2].render(index % 2)
        assert own is not None
        np.testing.assert_array_equal(whole.render(index), own)
    whole.close()
    with pytest.raises(RuntimeError, match="is closed"):
        whole.vectors[1].reset()


def test_what_is_refused():
    with pytest.raises(ValueError, match="got no vectors"):
        JoinedVector([])
    with pytest.raises(ValueError, match="vector 1 has other spaces than vector 0"):
        JoinedVector([make_vector("catch"), make_vector("chain")])
    whole = JoinedVector(vectors("minatar/asterix"))
    with pytest.raises(ValueError, match=r"actions have shape \(3,\), wanted \(5,\)"):
        whole.send(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"done has shape \(3,\), wanted \(5,\)"):
        whole.reset_done(np.zeros(3, bool))
    with pytest.raises(ValueError, match="the state is of 1 vectors, wanted 2"):
        whole.load_state_dict({"vectors": [{}]})


def test_a_vector_that_gives_no_mask_allows_everything_beside_one_that_does():
    members = vectors(f"{WORLDS}:Masked")
    mask = members[1].action_mask
    members[0].has_action_mask = False
    whole = JoinedVector(members).action_mask
    assert whole is not None
    assert whole[:3].all()
    np.testing.assert_array_equal(whole[3:], mask)

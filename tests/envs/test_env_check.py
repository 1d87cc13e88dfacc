"""Does the check praise what is right and name what is wrong?"""

from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box

from envs.check import check_env

WORLDS = Path(__file__).with_name("worlds.py")


def check(name, *, steps=300, **kwargs):
    return check_env(f"{WORLDS}:{name}", steps=steps, kwargs=kwargs)


def texts(findings, level):
    return [finding.text for finding in findings if finding.level == level]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "catch", "chain", "identity"])
def test_a_sound_environment_is_all_ok(env_id):
    findings = check_env(env_id, steps=2000)
    assert {finding.level for finding in findings} == {"ok"}


def test_what_is_said_about_cartpole():
    text = "\n".join(texts(check_env("CartPole-v1", steps=2000), "ok"))
    for words in (
        "spaces are supported",
        "2 actions",
        "declared shape (4,)",
        "declared dtype float32",
        "inside the declared bounds",
        "stay as they were returned",
        "episodes were terminated, 0 truncated",
        "every action is always legal",
        "rewards from 1 to 1",
        "[-10, 110]",
        "seeds reproduce: 1000 steps",
    ):
        assert words in text


def test_lengths_and_ends_of_episodes_are_counted():
    # lengths 3, 4, 5, 3, ...; episodes 0 and 2 terminated, 1 truncated, 3 unfinished
    text = "\n".join(texts(check("Counter", steps=14), "ok"))
    assert "3 episodes ended, after 3 to 5 steps (mean 4.0)" in text
    assert "2 episodes were terminated, 1 truncated" in text


def test_masks_are_followed():
    findings = check("Masked")  # raises at an illegal action
    assert not texts(findings, "error")
    assert any("action_mask'] is valid" in text for text in texts(findings, "ok"))
    assert any(text.startswith("deterministic") for text in texts(findings, "ok"))


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("Counter", {"reuse_buffer": True}, "buffer is reused: copied for you"),
        ("Counter", {}, "in a new environment differ from step 0 on"),  # counts its episodes across resets
        ("Unseeded", {}, "reset ignores its seed"),
        ("Remembering", {}, "reset ignores its seed"),
        ("Scripted", {}, "no episode ended in 300 steps: give it a limit with --env.max_steps"),
        ("Scripted", {}, "every reward is 0 under random play"),
        ("Scripted", {"obs": np.zeros(2)}, "observations are float32 and float64, the space says float32"),
        ("Scripted", {"obs": np.array([0, 2], np.float32)}, "300 observations lie outside the bounds"),
        ("Scripted", {"terminated": 0}, "terminated or truncated is bool and int, not bool"),
    ],
)
def test_oddities_are_warnings(name, kwargs, words):
    findings = check(name, **kwargs)
    assert any(words in text for text in texts(findings, "warn")), findings
    assert not texts(findings, "error")


def test_a_float64_observation_on_a_float32_bound_is_inside():
    findings = check("Scripted", obs=np.array([0.7, 0.7]), space=Box(0.0, 0.7, (2,), np.float32))
    assert any("inside the declared bounds" in text for text in texts(findings, "ok"))


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("Dictionary", {}, "only Box is supported"),
        ("Scripted", {"obs": np.array([0, np.nan])}, "NaN or infinity"),
        ("Scripted", {"obs": np.zeros(3)}, "shape (3,)"),
        ("Scripted", {"reward": float("inf")}, "reward is inf"),
        ("Scripted", {"num_parts": 4}, "step returned 4 values"),
        ("Scripted", {"reset_result": np.zeros(2)}, "reset returned ndarray"),
        ("Scripted", {"info": {"action_mask": [1, 2]}}, "wanted only 0 and 1"),
        (
            "Scripted",
            {"error": OSError("the engine is gone")},
            "playing 300 steps: OSError: the engine is gone",
        ),
        ("Scripted", {"volume": 11}, "making the environment: TypeError"),
        ("Nowhere", {}, "UnknownEnvironment"),
    ],
)
def test_faults_are_errors_in_words(name, kwargs, words):
    findings = check(name, **kwargs)
    assert findings[-1].level == "error"
    assert words in findings[-1].text
    assert "Traceback" not in findings[-1].text


@pytest.mark.parametrize(
    ("options", "message"), [({"steps": 0}, "steps is 0, wanted"), ({"gamma": 1.0}, "gamma is 1.0, wanted")]
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        check_env("catch", **options)

"""Says in words whether an environment keeps gymnasium's rules, and what to know about it before training."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np

from envs import make_env
from envs.gymnasium_vector import GymnasiumVector
from envs.value_range import collect_episodes, random_actions, suggest_support

SEED = 0
REPRODUCED_STEPS = 1000


class Finding(NamedTuple):
    """One thing that was checked."""

    level: Literal["ok", "warn", "error"]
    text: str


def check_env(
    env_id: str, *, gamma: float = 0.99, steps: int = 10_000, kwargs: dict[str, Any] | None = None
) -> list[Finding]:
    """Play random legal actions for `steps` steps; a finding for everything that was checked.

    Whatever the environment raises becomes a finding with level "error", which is then the last one.

    Raises:
        ValueError: steps < 1, or gamma outside [0, 1).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, wanted at least 1")
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma is {gamma}, wanted 0 <= gamma < 1")
    findings: list[Finding] = []
    activity = "making the environment"
    try:
        witness = Witness(make_env(env_id, kwargs=kwargs))
        venv = GymnasiumVector([witness], seed=SEED)
        findings.append(_space_finding(witness.env, venv))
        activity = f"playing {steps} steps"
        episodes = collect_episodes(venv, steps, np.random.default_rng(SEED))
        findings += _observation_findings(witness)
        findings += _episode_findings(witness, steps)
        findings.append(_mask_finding(venv))
        findings.append(_reward_finding(episodes, gamma))
        activity = "playing the same episodes again"
        fresh = make_env(env_id, kwargs=kwargs)
        findings.append(_seed_finding(witness.env, fresh, min(steps, REPRODUCED_STEPS)))
        witness.close()
        fresh.close()
    except Exception as error:  # whatever a stranger's code raises is what the user wants to read here
        findings.append(Finding("error", f"{activity}: {type(error).__name__}: {error}"))
    return findings


@dataclass
class Seen:
    """What an environment handed out, before anything was converted."""

    obs_dtypes: set[str] = field(default_factory=set)
    outside: int = 0  # observations out of the bounds of the space
    overwritten: int = 0  # observations that changed after they were handed out
    flag_types: set[str] = field(default_factory=set)  # of terminated and truncated
    episode_starts: list[int] = field(default_factory=list)  # steps taken before each reset
    steps: int = 0
    terminated: int = 0
    truncated: int = 0


class Witness(gymnasium.Wrapper):
    """Passes everything on as it is, and notes what it was."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.seen = Seen()
        self._handed_out = self._copy = np.empty(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        result = self.env.reset(seed=seed, options=options)
        self.seen.episode_starts.append(self.seen.steps)
        if isinstance(result, tuple) and result:
            self._look(result[0])
        return result

    def step(self, action: Any):
        result = self.env.step(action)
        self.seen.steps += 1
        if isinstance(result, tuple) and len(result) == 5:
            self._look(result[0])
            self.seen.flag_types |= {type(result[2]).__name__, type(result[3]).__name__}
            self.seen.terminated += bool(result[2])
            self.seen.truncated += bool(result[3])
        return result

    def _look(self, obs: Any) -> None:
        self.seen.overwritten += not np.array_equal(self._handed_out, self._copy, equal_nan=True)
        self._handed_out, self._copy = np.asarray(obs), np.array(obs)
        self.seen.obs_dtypes.add(str(self._copy.dtype))
        space = self.observation_space
        if isinstance(space, gymnasium.spaces.Box) and self._copy.shape == space.shape:
            # float32(0.7) < 0.7: a float64 observation on the bound is not outside
            compared = self._copy.astype(space.dtype) if space.dtype.kind == "f" else self._copy
            self.seen.outside += not ((space.low <= compared) & (compared <= space.high)).all()


def _space_finding(env: gymnasium.Env, venv: GymnasiumVector) -> Finding:
    return Finding(
        "ok",
        f"spaces are supported: observations {env.observation_space}, used as "
        f"{venv.observation_space.dtype}; {venv.num_actions} actions",
    )


def _observation_findings(witness: Witness) -> list[Finding]:
    # shapes, NaN, infinity and signatures have raised before, if they are wrong
    seen, space = witness.seen, witness.observation_space
    findings = [
        Finding("ok", "reset gives (obs, info), step gives (obs, reward, terminated, truncated, info)"),
        Finding("ok", f"every observation has the declared shape {space.shape}; no NaN, no infinity"),
    ]
    if seen.flag_types <= {"bool", "bool_"}:
        findings.append(Finding("ok", "terminated and truncated are bool"))
    else:
        findings.append(Finding("warn", f"terminated or truncated is {_listed(seen.flag_types)}, not bool"))
    if seen.obs_dtypes == {str(space.dtype)}:
        findings.append(Finding("ok", f"every observation has the declared dtype {space.dtype}"))
    else:
        got = _listed(seen.obs_dtypes)
        findings.append(Finding("warn", f"observations are {got}, the space says {space.dtype}: converted"))
    if seen.outside:
        findings.append(Finding("warn", f"{seen.outside} observations lie outside the bounds of {space}"))
    else:
        findings.append(Finding("ok", "every observation lies inside the declared bounds"))
    if seen.overwritten:
        text = "an observation changes after it was returned, its buffer is reused: copied for you"
        findings.append(Finding("warn", text))
    else:
        findings.append(Finding("ok", "observations stay as they were returned"))
    return findings


def _episode_findings(witness: Witness, steps: int) -> list[Finding]:
    seen = witness.seen
    # every episode that ended was followed by a reset, so that only the last one is unfinished
    lengths = [end - start for start, end in pairwise(seen.episode_starts)]
    if not lengths:
        text = f"no episode ended in {steps} steps: give it a limit with --env.max_steps"
        return [Finding("warn", text)]
    return [
        Finding(
            "ok",
            f"{len(lengths)} episodes ended, after {min(lengths)} to {max(lengths)} steps "
            f"(mean {sum(lengths) / len(lengths):.1f})",
        ),
        Finding("ok", f"{seen.terminated} episodes were terminated, {seen.truncated} truncated"),
    ]


def _mask_finding(venv: GymnasiumVector) -> Finding:
    if venv.has_action_mask:
        return Finding("ok", "info['action_mask'] is valid in every step; only legal actions were taken")
    return Finding("ok", "no info['action_mask']: every action is always legal")


def _reward_finding(episodes: list[list[float]], gamma: float) -> Finding:
    rewards = [reward for episode in episodes for reward in episode]
    v_min, v_max = suggest_support(episodes, gamma)
    text = (
        f"rewards from {min(rewards):g} to {max(rewards):g}, all finite; "
        f"suggested support at gamma {gamma:g}: [{v_min:g}, {v_max:g}]"
    )
    if min(rewards) == max(rewards) == 0.0:
        return Finding("warn", f"every reward is 0 under random play; {text}")
    return Finding("ok", text)


def _seed_finding(used: gymnasium.Env, fresh: gymnasium.Env, steps: int) -> Finding:
    # one that was played before and a new one: what survives a reset shows too
    first, second = _trace(used, SEED, steps), _trace(fresh, SEED, steps)
    if first != second:
        step = [one == two for one, two in zip(first, second, strict=True)].index(False)
        return Finding(
            "warn",
            f"the same seed and actions in a new environment differ from step {step} on: reset ignores its "
            "seed, or something else decides too. No run can be repeated; resuming cuts episodes short",
        )
    if first == _trace(fresh, SEED + 1, steps):
        return Finding("ok", f"deterministic: {steps} steps with another seed were no different")
    return Finding("ok", f"seeds reproduce: {steps} steps repeated bit for bit, and another seed differs")


def _trace(env: gymnasium.Env, seed: int, steps: int) -> list[bytes]:
    """What came at the reset and at every step, with the actions drawn alike for every seed."""
    venv = GymnasiumVector([env], seed=seed)
    rng = np.random.default_rng(SEED)
    trace = [venv.reset().tobytes()]
    for _ in range(steps):
        step = venv.step(random_actions(venv, rng))
        trace.append(b"".join(part.tobytes() for part in step[:4]))
        trace[-1] += venv.reset_done(step.done).tobytes()
    return trace


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))

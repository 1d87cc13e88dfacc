"""Checks of `benchmarks.gpu --stage correctness`: is what is fast on a GPU what it is made from?

Kernels that add in any order make two runs differ: a second eager agent says how much.
Each check gives what was found, with `passed`.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.captured import Captured
from agents.networks.qnetwork import EnvSpec
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.uniform import UniformReplay
from agents.running.stopwatch import Stopwatch
from agents.whole_updates import WholeUpdates
from benchmarks.replay import NUM_ENVS, steps_of_play
from value_heads import HEADS

ATARI = EnvSpec((4, 84, 84), "uint8", 6, False)
BFLOAT16 = {"agent.precision": "bfloat16"}
PER_LAUNCH = 4  # updates of a launch
LEVEL_EVERY = 12  # launches, after which agents are made equal again: training lets the smallest difference grow


class Size(NamedTuple):
    """How much is done in each stage."""

    updates: int  # of `correctness`
    warm_up: int  # calls before a timing; captured after 10
    timed: int  # calls in one of five timings
    heads: tuple[str, ...]  # that are timed
    rows: int  # of replay, of NUM_ENVS steps each
    draws: int
    seconds: float  # of `end_to_end`, for each of its runs
    pilot_steps: int
    pilot_seconds: float  # of one call
    overrides: dict[str, Any]


FULL = Size(1_000, 15, 20, tuple(HEADS), 5_000, 1_000_000, 35, 1_000_000, 360, {})
TINY = Size(8, 1, 1, ("mse",), 20, 10_000, 0.1, 64, 300, {"agent.batch_size": 4})


def make_agents(
    count: int, preset: str, device: torch.device, size: Size, **overrides: Any
) -> tuple[list[DQN], Iterator[tuple[np.ndarray, ...]]]:
    """Agents of one configuration that have seen the same noise with episodes, and what they are to see next."""
    settings = {
        "device": str(device),
        "env.num_envs": NUM_ENVS,
        "env.support": [-10.0, 10.0],
        "replay.capacity_steps": size.rows * NUM_ENVS,
    }
    config = RunConfig.preset(preset, settings | size.overrides | overrides)
    agents, steps = [DQN(config, ATARI, Stopwatch()) for _ in range(count)], steps_of_play(0)
    for told in itertools.islice(steps, size.rows):
        add(agents, told)
    return agents, steps


def make_agent(preset: str, device: torch.device, size: Size, **overrides: Any) -> DQN:
    return make_agents(1, preset, device, size, **overrides)[0][0]


def add(agents: list[DQN], told: tuple[np.ndarray, ...]) -> None:
    """Let replays have another step of every environment."""
    obs, action, *rest = told
    for agent in agents:
        agent.replay.add(obs, action % ATARI.num_actions, *rest)


def make_eager(agent: DQN) -> DQN:
    """The same agent, whose updates are what defines them."""
    agent.learner.gradient_of = agent.learner.differentiate
    return agent


def distance(left: DQN, right: DQN) -> float:
    """The largest relative difference of the mean loss of the last update of two agents."""
    ours, wanted = (float(agent.last_update.losses.mean()) for agent in (left, right) if agent.last_update)
    return abs(ours - wanted) / max(abs(wanted), 1e-8)


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Float32 is float32, and algorithms are those that give the same twice, as far as there are such."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


def level(agent: DQN, other: DQN) -> None:
    """Let an agent go on from the weights, the generator and the priorities of another."""
    agent.learner.load_state_dict(other.learner.state_dict())
    if isinstance(agent.replay, PrioritizedReplay) and isinstance(other.replay, PrioritizedReplay):
        agent.replay.tree.set_all(other.replay.tree.weights)
        agent.replay.max_weight.copy_(other.replay.max_weight)


def check_whole(preset: str, head: str, device: torch.device, size: Size, **overrides: Any) -> dict[str, Any]:
    """Whole updates, and updates one by one, while replay goes on and is written around."""
    (quick, eager, again), steps = make_agents(3, preset, device, size, head=head, **overrides)
    launches = WholeUpdates(quick, PER_LAUNCH, after=3)
    num_launches = size.updates // PER_LAUNCH
    of_launches, of_eager = [], []
    for number, told in enumerate(itertools.islice(steps, num_launches)):
        add([quick, eager, again], told)
        launches(PER_LAUNCH)
        for agent in (make_eager(eager), make_eager(again)):
            for _ in range(PER_LAUNCH):
                agent.update()
        of_launches.append(distance(quick, eager))
        of_eager.append(distance(again, eager))
        if number % LEVEL_EVERY == LEVEL_EVERY - 1:
            level(quick, eager)
            level(again, eager)
    captured = num_launches <= 3 or (bool(launches.graphs) and not launches.failed)
    return verdict(of_launches, of_eager, captured)


def verdict(of_quick: list[float], of_eager: list[float], captured: bool) -> dict[str, Any]:
    """Whether distances to an eager agent are like those between two eager ones.

    One in twenty may be larger: where one priority is rounded otherwise, another transition can be drawn.
    """
    names = ("median", "of twenty the second largest", "largest")
    quick, eager = (np.quantile(distances, (0.5, 0.95, 1.0)).tolist() for distances in (of_quick, of_eager))
    close = quick[0] <= max(1e-4, 10 * eager[0]) and quick[1] <= max(1e-3, 10 * eager[1])
    return {
        "to_eager": dict(zip(names, quick, strict=True)),
        "eager_to_eager": dict(zip(names, eager, strict=True)),
        "equal": sum(d == 0 for d in of_quick) / len(of_quick),
        "captured": captured,
        "passed": captured and close,
    }


def check_gradient(preset: str, head: str, device: torch.device, size: Size) -> dict[str, Any]:
    """Updates of which the gradient alone is captured, which is what there is where replay lies on the host."""
    (quick, eager, again), _ = make_agents(3, preset, device, size, head=head)
    make_eager(eager)
    make_eager(again)
    of_graph, of_eager = [], []
    for number in range(max(1, size.updates // 5)):
        for agent in (quick, eager, again):
            agent.update()
        of_graph.append(distance(quick, eager))
        of_eager.append(distance(again, eager))
        if number % 50 == 49:
            level(quick, eager)
            level(again, eager)
    gradient_of = quick.learner.gradient_of
    return verdict(of_graph, of_eager, not isinstance(gradient_of, Captured) or gradient_of.num_graphs == 1)


def check_acting(device: torch.device, size: Size) -> dict[str, Any]:
    """Values by a captured, lagged copy on its own stream, of stacks that were made there, while updates are made."""
    (agent,), steps = make_agents(1, "btr", device, size, **{"agent.acting_network": "lagged"})
    launches, distances = WholeUpdates(agent, 1, after=3), [0.0]
    assert agent.lagged is not None
    for told in itertools.islice(steps, max(15, size.updates // 20)):
        agent.lagged.follow()
        launches(2)
        with torch.cuda.stream(agent.lagged.stream):  # pyright: ignore[reportArgumentType]
            noise = agent.draw_noise(agent.generator)
            got = agent.values_of(agent.seen(told[0]), noise).cpu()
        synchronize(device)
        wanted = agent.predict(torch.from_numpy(told[0]).to(device), noise).cpu()
        distances.append(float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)))
        add([agent], told)
    return {"distance": max(distances), "passed": max(distances) <= 1e-3}


def check_replay(device: torch.device, size: Size) -> dict[str, Any]:
    """The same transitions from a replay on the device and from one on the host."""
    there = make_agent("btr", device, size).replay
    here = make_agent("btr", device, size, **{"replay.device": "cpu"}).replay
    indices = UniformReplay.draw(here, 256)
    wanted = here.gather(indices)
    got = there.gather(indices._replace(step=indices.step.to(device))).to(torch.device("cpu"))
    same = {
        name: bool(torch.equal(getattr(got, name), value))
        for name, value in wanted._asdict().items()
        if value is not None
    }
    same["where it lies"] = there.device == device
    return {"fields": same, "passed": all(same.values())}


def check_priorities(device: torch.device, size: Size) -> dict[str, Any]:
    """Are transitions drawn in proportion to their weights? The largest deviation in standard deviations."""
    replay = make_agent("btr", device, size, **{"replay.stratified": False}).replay
    assert isinstance(replay, PrioritizedReplay)
    indices = replay.draw(256)
    error = torch.linspace(0.01, 100, 256, device=device)
    replay.update_priorities(indices, error, error)
    expected = replay.tree.weights / replay.tree.total() * size.draws
    counts = torch.bincount(replay.leaf(replay.draw(size.draws)), minlength=len(expected))
    deviation = float(((counts - expected) / expected.clamp(min=1.0).sqrt()).abs().max())
    never = bool((counts[expected == 0] == 0).all())
    return {"deviation": deviation, "never_of_weight_0": never, "passed": deviation < 6.5 and never}


def check_resume(device: torch.device, size: Size) -> dict[str, Any]:
    """An agent from a checkpoint draws the same random numbers and makes the same updates, whenever it captures."""
    (whole, resumed), steps = make_agents(2, "btr", device, size)
    first, second = WholeUpdates(whole, PER_LAUNCH, after=2), WholeUpdates(resumed, PER_LAUNCH, after=5)
    first(5 * PER_LAUNCH)
    resumed.load_state_dict(whole.state_dict())
    resumed.replay.restore(0, size.rows, whole.replay.segment(0, size.rows))
    distances = []
    for told in itertools.islice(steps, 12):
        add([whole, resumed], told)
        first(PER_LAUNCH)
        second(PER_LAUNCH)
        distances.append(distance(resumed, whole))
    drawn = [agent.learner.generator.get_state() for agent in (whole, resumed)]
    same, close = torch.equal(*drawn), float(np.median(distances)) <= 1e-3
    return {"distances": distances, "generators": same, "passed": close and same}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

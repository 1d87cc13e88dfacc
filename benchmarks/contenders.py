"""One training by this project or by a peer, at a given setting, in a process of its own: benchmarks/peers.py runs it.

    python -m benchmarks.contenders NAME SETTING_AS_JSON

prints one line of JSON: steps, updates and seconds between a warm-up and the end, and what came before.
"""

import importlib.metadata
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from agents.benchmarks import clock


@dataclass(frozen=True)
class Setting:
    """What is the same for all; steps are decisions of the agent, over all environments."""

    env_id: str
    num_envs: int
    threads: int
    batch_size: int
    steps_per_update: int
    replay_steps: int
    learn_after_steps: int
    warm_up_steps: int  # from here on it is measured
    steps: int  # so many
    target_every_steps: int
    outputs: int  # bins or quantiles of an action; 1 for a regression
    v_min: float
    v_max: float
    lr: float = 2.5e-4
    adam_eps: float = 1e-8
    gamma: float = 0.99
    epsilon: float = 0.05
    max_grad_norm: float = 10.0
    mlp: tuple[int, int] = (120, 84)  # hidden layers, where observations are no pictures

    @property
    def is_atari(self) -> bool:
        return self.env_id.startswith("ALE/")

    def cycle(self) -> tuple[int, int]:
        """(decisions of every environment, updates) after which the pattern begins again."""
        steps = math.lcm(self.num_envs, self.steps_per_update)
        return steps // self.num_envs, steps // self.steps_per_update


class Enough(Exception):
    """The last step that is measured is made."""


class Marks:
    """The clocks at the end of the warm-up and at the end of all."""

    def __init__(self, setting: Setting):
        self.setting, self.marks = setting, []

    def at(self, step: int, updates: int) -> bool:
        """Take note of a step; whether it was the last."""
        setting = self.setting
        if step >= (setting.warm_up_steps, setting.warm_up_steps + setting.steps)[min(len(self.marks), 1)]:
            self.marks.append((step, updates, clock.now()))
        return len(self.marks) >= 2

    def result(self) -> dict[str, Any]:
        (step, updates, start), (last_step, last_updates, end) = self.marks
        took = end - start
        return {
            "steps": last_step - step,
            "updates": last_updates - updates,
            "cpu_seconds": took.cpu,
            "wall_seconds": took.wall,
            "all_steps": last_step,
            "all_cpu_seconds": end.cpu,  # since the process began: imports, environments, warm-up
            "all_wall_seconds": time.time() - psutil.Process().create_time(),
            "peak_memory_gb": clock.peak_memory_gb(),
        }


class MarkingReporter:
    """Passes each logged step of a run of ours on, and leaves the run at the last."""

    def __init__(self, marks: Marks):
        self.marks = marks

    def say(self, line: str) -> None: ...

    def progress(self, step: int, scalars: Mapping[str, float]) -> None:
        if self.marks.at(step, int(scalars["replay/updates"])):
            raise Enough

    def __enter__(self) -> "MarkingReporter":
        return self

    def __exit__(self, *exc_info: object) -> None: ...


def classyq(setting: Setting, marks: Marks, head: Mapping[str, Any]) -> None:
    """`classyq train` with its log, whose every row is a mark; evaluations and checkpoints come after the end."""
    from agents.config import RunConfig
    from agents.running.trainer import train

    never = {"every_steps": 10**12}
    network: dict[str, Any] = {
        "torso": {"name": "mlp", "hidden": [setting.mlp[0]]},
        "output_layer": {"name": "linear", "hidden": setting.mlp[1]},
    }
    if setting.is_atari:
        network = {"torso": {"name": "nature", "padding": "valid"}, "output_layer": {"name": "linear", "hidden": 512}}
    config = {
        "steps": 10**9,
        "num_threads": setting.threads,
        "env": {"id": setting.env_id, "num_envs": setting.num_envs, "support": [setting.v_min, setting.v_max]}
        | ({"protocol": "dqn2015"} if setting.is_atari else {}),
        "head": dict(head),
        "target_rule": {"name": "q_learning"},
        "agent": {
            "name": "dqn",
            "gamma": setting.gamma,
            "lr": setting.lr,
            "adam_eps": setting.adam_eps,
            "max_grad_norm": setting.max_grad_norm,
            "batch_size": setting.batch_size,
            "replay_ratio": 1 / setting.steps_per_update,
            "learn_after_steps": setting.learn_after_steps,
            "target_every_updates": setting.target_every_steps // setting.steps_per_update,
            **({"reward_clip": 1.0} if setting.is_atari else {}),
        },
        "exploration": {"name": "epsilon_greedy", "epsilon_start": setting.epsilon, "epsilon_end": setting.epsilon},
        "replay": {"name": "uniform", "capacity_steps": setting.replay_steps},
        "log": {"every_steps": math.gcd(setting.warm_up_steps, setting.steps), "histogram_every_steps": 10**12},
        "evaluation": never,
        "checkpoint": never,
        **network,
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            train(RunConfig.parse(config), Path(scratch) / "run", reporter=MarkingReporter(marks))
        except Enough:
            return


def stable_baselines3(setting: Setting, marks: Marks, algorithm: str) -> None:
    """DQN of Stable-Baselines3 or QRDQN of sb3-contrib; a callback looks at every step."""
    import ale_py
    import gymnasium
    from sb3_contrib import QRDQN
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    class Marking(BaseCallback):
        def _on_step(self) -> bool:
            return not marks.at(self.num_timesteps, self.model._n_updates)

    if setting.is_atari:
        gymnasium.register_envs(ale_py)
        raw = {"frameskip": 1, "repeat_action_probability": 0.0}
        venv = VecFrameStack(make_atari_env(setting.env_id, setting.num_envs, seed=0, env_kwargs=raw), 4)
    else:
        venv = make_vec_env(setting.env_id, setting.num_envs, seed=0)
    network: dict[str, Any] = {} if setting.is_atari else {"net_arch": list(setting.mlp)}
    network |= {"n_quantiles": setting.outputs} if algorithm == "QRDQN" else {}
    vector_steps, updates = setting.cycle()
    model = {"DQN": DQN, "QRDQN": QRDQN}[algorithm](
        "CnnPolicy" if setting.is_atari else "MlpPolicy",
        venv,
        learning_rate=setting.lr,
        buffer_size=setting.replay_steps,
        learning_starts=setting.learn_after_steps,
        batch_size=setting.batch_size,
        gamma=setting.gamma,
        train_freq=(vector_steps, "step"),
        gradient_steps=updates,
        target_update_interval=setting.target_every_steps,
        exploration_initial_eps=setting.epsilon,
        exploration_final_eps=setting.epsilon,
        max_grad_norm=setting.max_grad_norm,
        policy_kwargs={**network, "optimizer_kwargs": {"eps": setting.adam_eps}},
        seed=0,
        device="cpu",
    )
    model.learn(10**9, callback=Marking(), log_interval=1_000_000)


def pfrl(setting: Setting, marks: Marks, algorithm: str) -> None:
    """DQN or CategoricalDQN (C51) of pfrl, in the loop of its examples."""
    import numpy as np
    from pfrl import agents, explorers, replay_buffers

    env, rng = environment_of_pfrl(setting), np.random.default_rng(0)
    num_actions = env.action_space.n
    network = network_of_pfrl(setting, env.observation_space.shape, num_actions, algorithm)
    agent = getattr(agents, algorithm)(
        network,
        torch.optim.Adam(network.parameters(), lr=setting.lr, eps=setting.adam_eps),
        replay_buffers.ReplayBuffer(setting.replay_steps),
        setting.gamma,
        explorers.ConstantEpsilonGreedy(setting.epsilon, lambda: int(rng.integers(num_actions))),
        replay_start_size=setting.learn_after_steps,
        minibatch_size=setting.batch_size,
        update_interval=setting.steps_per_update,
        target_update_interval=setting.target_every_steps,
        max_grad_norm=setting.max_grad_norm,
        phi=(lambda obs: np.asarray(obs, np.float32) / 255) if setting.is_atari else (lambda obs: obs),
    )
    obs, step = env.reset(seed=0)[0], 0
    while not marks.at(step, agent.optim_t):
        obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
        agent.observe(obs, reward, terminated, truncated)
        if terminated or truncated:
            obs = env.reset()[0]
        step += 1


def environment_of_pfrl(setting: Setting) -> Any:
    """pfrl's own wrappers are for the interface of gym that is no more: those of gymnasium and SB3 instead."""
    import ale_py
    import gymnasium
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    if not setting.is_atari:
        return gymnasium.make(setting.env_id)
    gymnasium.register_envs(ale_py)
    raw = gymnasium.make(setting.env_id, frameskip=1, repeat_action_probability=0.0)
    squeezed = gymnasium.wrappers.ReshapeObservation(AtariWrapper(raw), (84, 84))
    return gymnasium.wrappers.FrameStackObservation(squeezed, 4)


def network_of_pfrl(setting: Setting, obs_shape: tuple[int, ...], num_actions: int, algorithm: str) -> nn.Module:
    from pfrl import action_value, q_functions

    class Distributional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers
            self.register_buffer("z", torch.linspace(setting.v_min, setting.v_max, setting.outputs))

        def forward(self, obs: torch.Tensor) -> Any:
            logits = self.layers(obs).view(-1, num_actions, setting.outputs)
            return action_value.DistributionalDiscreteActionValue(logits.softmax(-1), self.z)

    torso: list[nn.Module] = [nn.Linear(obs_shape[0], setting.mlp[0]), nn.ReLU(), nn.Linear(*setting.mlp), nn.ReLU()]
    features = setting.mlp[1]
    if setting.is_atari:
        convolutions = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3)]
        torso, features = [*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(3_136, 512), nn.ReLU()], 512
    layers = nn.Sequential(*torso, nn.Linear(features, num_actions * setting.outputs))
    if algorithm == "CategoricalDQN":
        return Distributional()
    return nn.Sequential(layers, q_functions.DiscreteActionValueHead())


CONTENDERS: dict[str, Callable[[Setting, Marks], None]] = {
    "classyq huber": lambda s, m: classyq(s, m, {"name": "huber"}),
    "classyq c51": lambda s, m: classyq(s, m, {"name": "c51", "num_bins": s.outputs}),
    "classyq hl_gauss": lambda s, m: classyq(s, m, {"name": "hl_gauss", "num_bins": s.outputs}),
    "classyq quantile": lambda s, m: classyq(s, m, {"name": "quantile", "num_quantiles": s.outputs}),
    "classyq iqn": lambda s, m: classyq(s, m, {"name": "iqn"}),
    "SB3 DQN": lambda s, m: stable_baselines3(s, m, "DQN"),
    "sb3-contrib QRDQN": lambda s, m: stable_baselines3(s, m, "QRDQN"),
    "pfrl DQN": lambda s, m: pfrl(s, m, "DQN"),
    "pfrl CategoricalDQN": lambda s, m: pfrl(s, m, "CategoricalDQN"),
}
VERSIONS = ("torch", "numpy", "gymnasium", "ale-py", "stable-baselines3", "sb3-contrib", "pfrl")


def main() -> None:
    name, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    torch.set_num_threads(setting.threads)
    marks = Marks(setting)
    CONTENDERS[name](setting, marks)
    versions = {package: importlib.metadata.version(package) for package in VERSIONS}
    print(json.dumps({"contender": name, "setting": asdict(setting), "versions": versions, **marks.result()}))


if __name__ == "__main__":
    main()

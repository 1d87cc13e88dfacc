"""Does docs/datasets.md tell the truth: can a data set be written by what stands there, without our code?"""

import re
from pathlib import Path

from agents.config import RunConfig
from agents.running import dataset
from agents.running.dataset import Description
from agents.running.trainer import train

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
WORLD = """
import gymnasium
import numpy as np


class Climb(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 5.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), float(action) * (self.t - 1), self.t == 5, False, {}
"""


def test_a_data_set_written_by_hand(tmp_path, monkeypatch):
    """The world of the page, learned from the data of the page: action 1 pays the step's number, 0 nothing."""
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert code is not None
    exec(code[1], {})
    data = dataset.find("my_data")
    assert set(data.arrays()) == set(data.description.shapes(1))
    assert [len(episode) for episode in data.episodes()] == [5] * 100
    (tmp_path / "climb.py").write_text(WORLD)
    config = RunConfig.parse({"env": {"id": "./climb.py:Climb", "support": [-1, 12]}, "agent": {"name": "cql"}})
    config = config.with_overrides(
        {"agent.dataset": "my_data", "agent.lr": 1e-2, "agent.target_every_updates": 10, "steps": 200}
        | {"torso": {"name": "mlp", "hidden": [16]}, "evaluation.num_episodes": 1, "evaluation.final_episodes": 1}
    )
    assert train(config, tmp_path / "run").best_return == 0 + 1 + 2 + 3 + 4


def test_every_key_is_explained():
    """Those of dataset.json, and all files."""
    description = Description(
        rows=1, num_envs=1, obs_shape=(1,), obs_dtype="uint8", num_actions=2, has_action_mask=True, crc32={}
    )
    for name in [*(f"{name}.npy" for name in description.shapes(1)), *Description.model_fields]:
        assert f"`{name}`" in PAGE, name
    assert f"## The format, version {description.version}" in PAGE

"""Do the masks of an environment reach what is learned from, each beside the observation that it belongs to?"""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from agents.learning.targets import TARGET_RULES
from agents.running.run import Run

NUM_ACTIONS = 4


class Marked(gymnasium.Env):
    """Every observation is the mask of legal actions, drawn anew; episodes of about five steps are ended or cut."""

    action_space = Discrete(NUM_ACTIONS)
    observation_space = Box(0.0, 1.0, (NUM_ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe()

    def step(self, action):
        assert self.mask[action]
        ended, cut = self.np_random.random(2) < 0.1
        obs, info = self.observe()
        return obs, 1.0, bool(ended), bool(cut), info

    def observe(self):
        self.mask = self.np_random.random(NUM_ACTIONS) < 0.5
        self.mask[self.np_random.integers(NUM_ACTIONS)] = True
        return self.mask.astype(np.float32), {"action_mask": self.mask}


@pytest.mark.parametrize("rule", TARGET_RULES)
def test_masks_lie_beside_their_observations(rule, small):
    changes = {"target_rule": rule, "agent.n_step": 2, "env.num_envs": 2, "replay.capacity_steps": 120}
    run = Run(small(f"{__file__}:Marked", changes), None, None)  # pyright: ignore
    for _ in range(100):
        run.advance()
    batch, _ = run.agent.replay.sample(500)
    assert torch.equal(batch.mask, batch.obs.bool())
    assert torch.equal(batch.next_mask, batch.next_obs.bool())
    assert batch.mask.gather(1, batch.action[:, None]).all()
    taken = batch.next_action >= 0
    assert taken.any()
    assert batch.next_mask.gather(1, batch.next_action.clamp(min=0)[:, None])[taken].all()
    metrics = run.agent.metrics()
    assert np.isfinite([metrics["losses/td_loss"], metrics["losses/q_values"]]).all()

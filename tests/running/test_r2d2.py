"""R2D2 in the loop: is the memory that of the episode and of nothing else, in training, in evaluation and on film?

N environments, S numbers of a recurrent state.
"""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from agents import load, train
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running.clip import record
from agents.running.evaluation import Policy, evaluate, make_evaluation_env, play
from agents.running.run import Run
from agents.tables import ConfigError

R2D2 = {
    "agent.name": "r2d2",
    "agent.lstm_size": 6,
    "agent.batch_size": 4,
    "replay": {"name": "sequences", "burn_in_steps": 2, "trace_steps": 5, "period_steps": 3},
    "env.num_envs": 3,
    "head.name": "mse",
}
NEVER = 10**6


class Counter(gymnasium.Env):
    """Counts its steps. Episodes have 4 to 12; of some the end is a time limit. Rewards are up to 3."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(4, 13))
        self.name = float(self.np_random.normal())
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        cut = over and self.length % 2 == 0
        return self.observe(), float(self.t % 4), over and not cut, cut, {}

    def observe(self):
        return np.array([self.name, self.t / 10], np.float32)


COUNTER = f"{__file__}:Counter"
SPEC = EnvSpec((2,), "float32", 3, False)


def from_the_start(network, steps, clip=None):
    """The state after an episode's steps (obs, action, reward), and action values at its last observation."""
    obs = torch.tensor(np.stack([s[0] for s in steps])).unsqueeze(1)
    action = torch.tensor([-1] + [int(s[1]) for s in steps[:-1]]).unsqueeze(1)
    reward = torch.tensor([0.0] + [float(s[2]) for s in steps[:-1]]).unsqueeze(1)
    if clip is not None:
        reward = reward.clamp(-clip, clip)
    with torch.no_grad():
        features, state = network.unroll(obs, action, reward, torch.zeros(1, network.state_size))
        return state[0], network.head(features[-1]).mean()[0]


def test_stored_states_are_those_from_the_start_of_the_episode(small):
    """With weights that never change, every state in replay is what the network makes of its episode up to there."""
    config = small(COUNTER, {**R2D2, "agent.learn_after_steps": NEVER, "agent.reward_clip": 1.0, "steps": 300})
    run = Run(config, None, None)  # pyright: ignore
    for _ in range(60):
        run.advance()
    replay, network = run.agent.replay, run.agent.online
    lengths = set()
    for env in range(3):
        episode = []
        for row in range(60):
            expected = torch.zeros(12)
            if episode:
                expected, _ = from_the_start(network, episode)
            # One step at a time and all at once add up in other orders: some ulps of float32.
            torch.testing.assert_close(replay.state[row, env], expected, rtol=1e-5, atol=1e-6)
            obs = replay.observations.frames[row, env].numpy()
            assert obs[1] == np.float32(len(episode) / 10), "it began where the episode did"
            episode.append((obs, replay.action[row, env], replay.reward[row, env]))
            if replay.episode_end[row, env]:
                lengths.add(len(episode))
                episode = []
    assert len(lengths) > 3
    assert replay.reward.max() == 1, "what is remembered of rewards is what is learned from"


def test_a_cut_episode_is_forgotten(small):
    run = Run(small(COUNTER, {**R2D2, "agent.learn_after_steps": NEVER}), None, None)  # pyright: ignore
    for _ in range(3):
        run.advance()
    memory = run.agent.memory
    before = memory.state.clone()
    assert (before != 0).all()
    run.agent.cut(1, run.obs[1])
    assert (memory.state[1] == 0).all()
    assert (memory.action[1], memory.reward[1]) == (-1, 0)
    assert torch.equal(memory.state[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_evaluation_is_step_by_step_play(epsilon, small):
    """Every decision of `play` is the one that the network takes for its episode, run through from the start."""
    config = small(COUNTER, {**R2D2, "agent.reward_clip": 2.0, "seed": 4})
    policy = Policy(make_network(config, SPEC), config, SPEC)
    with torch.no_grad():  # so that actions differ
        policy.network.lstm.weight_ih_l0.mul_(3)
        policy.network.head.output.last.bias.zero_()
    venv = make_evaluation_env(config, num_envs=3, seed=4)
    histories = [[] for _ in range(3)]
    chosen = set()
    for number, decision in enumerate(play(policy, venv, np.random.default_rng(0), epsilon=epsilon)):
        for env, history in enumerate(histories):
            history.append((decision.obs[env], decision.action[env], decision.step.reward[env]))
            _, q_values = from_the_start(policy.network, history, clip=2.0)
            torch.testing.assert_close(decision.values.mean()[env].clone(), q_values, rtol=1e-4, atol=1e-5)
            if epsilon == 0:
                assert decision.action[env] == q_values.argmax()
            chosen.add(int(decision.action[env]))
            if decision.step.done[env]:
                histories[env] = []
        if number == 40:
            break
    assert chosen == {0, 1, 2}
    results = [evaluate(policy, num_episodes=5, seed=1) for _ in range(2)]
    assert results[0] == results[1], "a second evaluation begins without memories of the first"


def test_a_policy_of_a_run_and_its_clip(small, tmp_path):
    """Train, load, act on one's own, and record; what the clip says of a state after the end is asked with memory."""
    config = small(COUNTER, {**R2D2, "steps": 240})
    assert train(config, tmp_path).finished
    policy = load(tmp_path)
    with pytest.raises(ValueError, match=r"got 1 observations, but no episode began: call begin\(1\)"):
        policy.act(np.zeros(2, np.float32))
    policy.begin(2)
    with pytest.raises(ValueError, match="got 3 observations, but episodes of 2 environments began"):
        policy.act(np.zeros((3, 2), np.float32))
    obs, history = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32), []
    for t in range(4):
        obs[:, 1] = t / 10
        action = policy.act(obs)
        history.append((obs[1].copy(), action[1], 2.0))
        _, q_values = from_the_start(policy.network, history)
        torch.testing.assert_close(policy.q_values(obs)[1].clone(), q_values, rtol=1e-4, atol=1e-5)
        policy.remember(action, np.array([0.0, 2.0]))
    policy.forget(np.array([True, True]))
    _, q_values = from_the_start(policy.network, history[:1])
    torch.testing.assert_close(policy.q_values(np.stack([history[0][0]] * 2))[0].clone(), q_values)

    after = []
    venv = make_evaluation_env(config, num_envs=1, seed=3)
    asked = policy.q_values
    policy.q_values = lambda obs: after.append((obs, asked(obs))) or after[-1][1]  # pyright: ignore
    history.clear()

    def camera(obs):
        return np.zeros((4, 4, 3), np.uint8)

    clip = record(policy, venv, camera, np.random.default_rng(0), episodes=4, steps=60)  # pyright: ignore
    venv = make_evaluation_env(config, num_envs=1, seed=3)
    expected = []
    for decision in play(load(tmp_path), venv, np.random.default_rng(0)):
        history.append((decision.obs[0], decision.action[0], decision.step.reward[0]))
        if decision.step.truncated[0]:
            expected.append(from_the_start(policy.network, [*history, (decision.step.next_obs[0], 0, 0)])[1])
        if decision.step.done[0]:
            history.clear()
        if len(expected) == len(after):
            break
    assert clip.played[0].over
    assert len(after) > 0
    for (_, found), q_values in zip(after, expected, strict=True):
        torch.testing.assert_close(found[0].clone(), q_values, rtol=1e-4, atol=1e-5)


def test_lost_lives_are_remembered_through(small):
    """A terminal step within an episode ends the value and not the memory."""
    run = Run(small(COUNTER, {**R2D2, "agent.learn_after_steps": NEVER}), None, None)  # pyright: ignore
    run.advance()
    recv = run.venv.recv

    def with_a_life_lost():
        step = recv()
        return step._replace(life_lost=np.array([True, False, False]))

    run.venv.recv = with_a_life_lost
    run.advance()
    assert run.agent.replay.terminal[1].tolist() == [True, False, False]
    assert (run.agent.memory.state != 0).all()


def test_plan_and_metrics(small):
    config = small(COUNTER, {**R2D2, "agent.learn_after_steps": 60, "agent.replay_ratio": 0.2, "steps": 300})
    run = Run(config, None, None)  # pyright: ignore
    assert "1 update of 4 sequences of 5 steps per 5 steps = 47; each step is learned from up to 3.13 times" in (
        run.agent.plan()
    )
    for _ in range(100):
        run.advance()
    assert run.agent.learner.num_updates == 47
    metrics = run.agent.metrics()
    assert metrics["replay/size"] == len(run.agent.replay) > 0
    assert np.isfinite([metrics["losses/td_loss"], metrics["losses/q_values"]]).all()
    idle = Run(small(COUNTER, {**R2D2, "steps": 12, "agent.learn_after_steps": 1}), None, None)  # pyright: ignore
    assert "no update before step 18" in idle.agent.plan()


def test_the_replay_has_to_be_one_of_sequences(small, tmp_path):
    with pytest.raises(ConfigError, match="learns from sequences, which 'uniform' does not give: wanted 'sequences'"):
        train(small(overrides={**R2D2, "replay": {"name": "uniform"}}), tmp_path)
    with pytest.raises(ConfigError, match="for an agent with a memory"):
        train(small(overrides={"replay": {"name": "sequences"}}), tmp_path)

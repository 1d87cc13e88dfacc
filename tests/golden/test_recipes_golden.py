"""Are the recipes the published ones? Numbers as their sources have them, in their units, and what follows from them.

Sources: [D] google/dopamine, `jax/agents/*/configs/*.gin` (Castro et al. 2018); [M] google-research, `munchausen_rl`,
atari.gin (Vieillard et al. 2020); [H] Hessel et al. 2018, table 1; [S] Schaul et al. 2016, table 3; [W] Wang et al.
2016; [F] Farebrother et al. 2024, tables B.1 to B.3; [E] schmidtdominik/Rainbow, argp.py, rainbow.py and
replay_buffer.py; [B] Clark et al. 2025, table D6, and its code; [P] mttga/purejaxql, pqn_atari.yaml and
pqn_minatar.yaml; [K] Kapturowski et al. 2019, table 2; [A] google-deepmind/acme, `agents/jax/r2d2/config.py` and
learning.py; [C] google/dopamine, `labs/offline_rl/jax/configs/jax_classy_cql.gin` and the agent's defaults; [O] Osband
et al. 2016; [T] tahashieenavaz/aftab, Aftab.py (arXiv 2608.07335); [Z] google-research, `bigger_better_faster`,
BBF.gin (Schwarzer et al. 2023).
"""

import math

import numpy as np
import pytest
import torch

from agents.components import KINDS
from agents.config import RunConfig
from agents.exploration import ApeX
from agents.presets import preset_names
from value_heads import Atoms, make_head

ADAM, BINS, QUANTILES = (6.25e-5, 1.5e-4), (2.5e-4, 3.125e-4), (5e-5, 3.125e-4)
FAST, OF_256 = (2.5e-4, 0.005 / 256), (1e-4, 0.005 / 256)
SQRT_LOSS = ("loss", 0.5, 0.5, 0.5)  # what, exponent, importance exponent at the beginning and at the end of the run
TO_ONE = ("loss", 0.5, 0.4, 1.0)

# recipe -> source, (lr, Adam's epsilon), n, gamma, batch, (target rule, head), priorities
# steps: between updates, before the first, between target copies; and the replay's
REPLAY = {
    "dqn": ("[D] dqn [F]", ADAM, 1, 0.99, 32, ("q_learning", "mse"), None),
    "double_dqn": ("[D] dqn", ADAM, 1, 0.99, 32, ("double_q_learning", "mse"), None),
    "bootstrapped_dqn": ("[D] dqn [O]", ADAM, 1, 0.99, 32, ("double_q_learning", "mse"), None),
    "dueling": ("[D] dqn [W]", ADAM, 1, 0.99, 32, ("double_q_learning", "mse"), None),
    "per": ("[D] dqn [S]", ADAM, 1, 0.99, 32, ("double_q_learning", "mse"), ("td_error", 0.6, 0.4, 1.0)),
    "c51": ("[D] c51", BINS, 1, 0.99, 32, ("q_learning", "c51"), None),
    "two_hot": ("[F] B.2", BINS, 1, 0.99, 32, ("q_learning", "two_hot"), None),
    "hl_gauss": ("[F] B.3", BINS, 1, 0.99, 32, ("q_learning", "hl_gauss"), None),
    "softmoe": ("[F] B.1.1", BINS, 1, 0.99, 32, ("q_learning", "hl_gauss"), None),
    "qr_dqn": ("[D] quantile", QUANTILES, 3, 0.99, 32, ("q_learning", "quantile"), SQRT_LOSS),
    "iqn": ("[D] implicit_quantile", QUANTILES, 3, 0.99, 32, ("q_learning", "iqn"), None),
    "m_dqn": ("[M]", QUANTILES, 1, 0.99, 32, ("munchausen", "huber"), None),
    "m_iqn": ("[M]", QUANTILES, 1, 0.99, 32, ("munchausen", "iqn"), None),
    "rainbow": ("[D] rainbow", ADAM, 3, 0.99, 32, ("q_learning", "c51"), SQRT_LOSS),
    "rainbow_full": ("[H]", ADAM, 3, 0.99, 32, ("double_q_learning", "c51"), TO_ONE),
    "fe_rainbow": ("[E]", FAST, 3, 0.99, 256, ("double_q_learning", "huber"), ("td_error", 0.5, 0.45, 1.0)),
    "btr": ("[B]", OF_256, 3, 0.997, 256, ("munchausen", "iqn"), ("td_error", 0.2, 0.2, 0.2)),
    "btr_hl_gauss": ("[B]", OF_256, 3, 0.997, 256, ("munchausen", "hl_gauss"), ("td_error", 0.2, 0.2, 0.2)),
}
STEPS = dict.fromkeys(REPLAY, (4, 20_000, 8_000, 1_000_000)) | {
    "fe_rainbow": (64 // 2, 120_000, 32_000, 2**20),
    "btr": (64, 200_000, 500 * 64, 2**20),
    "btr_hl_gauss": (64, 200_000, 500 * 64, 2**20),
}

# recipe -> what epsilon is after so many *frames*, four a step
DOPAMINE = {0: 1.0, 80_000: 1.0, 580_000: 0.505, 1_080_000: 0.01, 200_000_000: 0.01}  # 250k steps, after 20k
BTR = {0: 1.0, 4_000_000: 0.505, 8_000_000: 0.01, 99_999_999: 0.01, 100_000_000: 0.0}
OF_THEIR_OWN = ("bootstrapped_dqn", "rainbow_full", "fe_rainbow", "btr", "btr_hl_gauss")
EPSILON = {
    "bootstrapped_dqn": {0: 0.0, 200_000_000: 0.0},
    "aftab": {0: 1.0, 10_000_000: 0.5005, 20_000_000: 0.001},
    **{name: DOPAMINE for name in REPLAY if name not in OF_THEIR_OWN},
    "fe_rainbow": {0: 0.002, 4 * 10_000: 0.001, 4 * 20_000: 0.0},
    "btr": BTR,
    "btr_hl_gauss": BTR,
    "pqn": {0: 1.0, 10_000_000: 0.5005, 20_000_000: 0.001},  # a tenth of 200M
    "pqn_hadamax_hl_gauss": {0: 1.0, 10_000_000: 0.5005, 20_000_000: 0.001},
    "bbf": {0: 1.0, 4 * 2_000: 1.0, 4 * 4_001: 0.0},  # linearly_decaying_epsilon of Dopamine, to 0
    "pqn_minatar": {0: 1.0, 4 * 500_000: 0.525, 4 * 1_000_000: 0.05},  # no frames there: a tenth of 10M steps
}


@pytest.mark.parametrize("name", REPLAY)
def test_learning_from_replay(name):
    _, (lr, adam_eps), n_step, gamma, batch_size, parts, priorities = REPLAY[name]
    config = RunConfig.preset(name)
    agent, replay = config.agent, config.replay
    assert (config.target_rule.name, config.head.name) == parts
    assert (agent.lr, agent.adam_eps, agent.optimizer, agent.weight_decay) == (lr, adam_eps, "adam", 0)
    assert (agent.n_step, agent.gamma, agent.batch_size) == (n_step, gamma, batch_size)
    between, before, target_steps, capacity = STEPS[name]
    assert 1 / agent.replay_ratio == between
    assert agent.target_every_updates * between == target_steps
    assert (agent.learn_after_steps, replay.capacity_steps, agent.target_tau) == (before, capacity, 1)
    assert agent.reward_clip == 1
    if priorities is None:
        assert replay.name == "uniform"
    else:
        assert replay.name == "prioritized"
        last = replay.importance_exponent if replay.importance_steps is None else 1.0
        assert (replay.priority, replay.exponent, replay.importance_exponent, last) == priorities
        assert replay.importance_steps in (None, config.steps)
    clipped = {"dueling": 10, "fe_rainbow": 10, "btr": 10, "btr_hl_gauss": 10}
    assert agent.max_grad_norm == clipped.get(name)


@pytest.mark.parametrize("name", EPSILON)
def test_epsilon(name):
    config = RunConfig.preset(name)
    exploration = KINDS["exploration"].find(config.exploration.name)(1, 0, **config.exploration.options())
    for frames, epsilon in EPSILON[name].items():
        assert exploration.epsilon(frames / 4) == pytest.approx(epsilon, abs=1e-12), frames


def test_bbf():
    """[Z]; gin counts resets in environment steps, of which each has 64 / 32 updates, and annealing in updates."""
    config = RunConfig.preset("bbf")
    agent, replay, env = config.agent, config.replay, config.env
    assert config.steps == 100_000
    assert (env.protocol, env.kwargs, env.num_envs, agent.reward_clip) == ("dqn2015", {}, 1, 1)
    assert (config.torso.name, config.torso.width, config.torso.renormalize) == ("impala", 4, True)
    output = config.output_layer
    assert (output.name, output.hidden, output.shared_hidden) == ("dueling", 2048, True)
    assert (config.target_rule.name, config.head.name, config.head.num_bins) == ("double_q_learning", "c51", 51)
    assert env.support == (-10, 10)
    assert (agent.lr, agent.adam_eps, agent.weight_decay, agent.max_grad_norm) == (1e-4, 1.5e-4, 0.1, None)
    assert (agent.batch_size, agent.replay_ratio, agent.learn_after_steps) == (32, 64 / 32, 2_000)
    assert (agent.target_every_updates, agent.target_tau, agent.acting_network) == (1, 0.005, "target")
    assert (replay.name, replay.capacity_steps, replay.priority) == ("prioritized", 200_000, "loss")
    assert (replay.exponent, replay.importance_exponent, replay.epsilon) == (0.5, 0.5, 1e-10)
    assert (config.resets.every_updates, config.resets.shrink) == (20_000 * 64 // 32, 0.5)
    assert (config.annealing.n_step_start, agent.n_step, config.annealing.over_updates) == (10, 3, 10_000)
    assert (config.annealing.gamma_start, agent.gamma) == (0.97, 0.997)
    spr = config.regularizers["self_prediction"]
    assert (spr.weight, spr.steps) == (5, 5)
    assert (config.augmentation.shift_pixels, config.augmentation.intensity) == (4, 0.05)
    assert (config.evaluation.epsilon, config.evaluation.final_episodes) == (0.001, 100)


def test_noise_explores_alone_in_rainbow():
    for name in ("rainbow_full", "rainbow_minatar"):
        config = RunConfig.preset(name)
        assert config.exploration.name == "greedy"
        assert (config.output_layer.name, config.output_layer.sigma) == ("noisy_dueling", 0.5)


@pytest.mark.parametrize(("name", "lr", "num_steps"), [("pqn", 2.5e-4, 50e6), ("pqn_minatar", 5e-4, 10e6)])
def test_pqn(name, lr, num_steps):
    """[P]; their loss is 0.5 (q - y)^2 where `mse` has no half, so its gradients are half of ours."""
    config = RunConfig.preset(name)
    agent = config.agent
    assert (agent.name, config.head.name, config.steps, config.env.num_envs) == ("pqn", "mse", num_steps, 128)
    assert (agent.rollout_steps, agent.num_epochs, agent.num_minibatches) == (32, 2, 32)
    assert (agent.optimizer, agent.lr, agent.lr_decay, agent.adam_eps) == ("radam", lr, name == "pqn_minatar", 1e-8)
    assert (agent.gamma, agent.trace_decay, agent.max_grad_norm) == (0.99, 0.65, 2 * 10)
    assert config.torso.layer_norm
    assert config.output_layer.layer_norm
    assert config.output_layer.hidden == (512 if name == "pqn" else 128)


def test_r2d2():
    """[K] and [A], which sums half of squares over a sequence where `mse` has their mean: gradients 40 times ours.

    Adam's rate does not care, and its epsilon does. [A] samples every sequence 4 times: 64 of them for 16 that are
    new, each of which began 40 steps after the one before.
    """
    config = RunConfig.preset("r2d2")
    agent, replay = config.agent, config.replay
    assert (agent.name, agent.gamma, agent.n_step, agent.lstm_size, agent.batch_size) == ("r2d2", 0.997, 5, 512, 64)
    assert (replay.burn_in_steps, replay.trace_steps, replay.period_steps) == (40, 80, 40)
    assert (replay.eta, replay.exponent, replay.importance_exponent) == (0.9, 0.9, 0.6)
    assert (agent.target_every_updates, agent.target_tau, agent.reward_clip, agent.max_grad_norm) == (
        2500,
        1,
        None,
        None,
    )
    assert (agent.optimizer, agent.lr, agent.adam_eps) == ("adam", 1e-4, pytest.approx(1e-3 / (replay.trace_steps / 2)))
    assert 1 / agent.replay_ratio == agent.batch_size / 4 * replay.period_steps
    assert (config.head.name, config.head.transform) == ("mse", "hyperbolic")
    assert (config.output_layer.name, config.output_layer.hidden) == ("dueling", 512)
    assert config.target_rule.name == "double_q_learning"
    epsilons = ApeX(config.env.num_envs, 0, base=config.exploration.base, alpha=config.exploration.alpha).epsilons
    assert (epsilons.max(), epsilons.min()) == (0.4, pytest.approx(0.4**8))
    small = RunConfig.preset("r2d2_recall")
    assert (small.head, small.exploration, small.target_rule) == (config.head, config.exploration, config.target_rule)
    assert (small.replay.eta, small.replay.exponent, small.replay.importance_exponent) == (0.9, 0.9, 0.6)


@pytest.mark.parametrize("name", ["two_hot", "c51", "hl_gauss"])
def test_bins_of_r2d2_are_those_of_muzero(name):
    """601 of them, a whole number each in the rescaled space, on [-300, 300]: Schrittwieser et al. 2020, appendix F."""
    config = RunConfig.preset("r2d2", {"head": name})
    head = make_head(
        name,
        in_features=1,
        num_actions=1,
        support=config.env.support,
        **config.head.model_dump(exclude={"name"}),
    )
    assert head.encoding.num_bins == 601
    where = head.encoding.edges if name == "hl_gauss" else head.encoding.centers
    np.testing.assert_allclose(where[[0, -1]], [-300, 300], atol=1e-2)
    # What is encoded comes back, with bins of 1 in a space where 10,000 is 109; HL-Gauss is off by 5e-6 of a bin, which
    # is worth 2 (sqrt(y + 1) + y / 1000) times as much.
    returns = torch.tensor([-50_000.0, -21.0, 0.0, 0.3, 1.0, 400.0, 10_000.0])
    decoded = head.encoding.mean(head.encoding(Atoms.at(returns)))
    np.testing.assert_allclose(decoded, returns, rtol=2e-4, atol=2e-4)


def test_cql():
    """[C] with its HL-Gauss of [F]; 2,000 updates there, as update_period is 1."""
    config = RunConfig.preset("cql")
    agent = config.agent
    assert (agent.name, config.steps, config.evaluation.epsilon) == ("cql", 100 * 62_500, 0.001)
    assert (agent.gamma, agent.n_step, agent.batch_size, agent.reward_clip) == (0.99, 1, 32, 1)
    assert (agent.optimizer, agent.lr, agent.adam_eps, agent.max_grad_norm) == ("adam", 6.25e-5, 3.125e-4, None)
    assert (agent.target_every_updates, agent.target_tau) == (2000, 1)
    assert config.target_rule.name == "double_q_learning"
    assert {name: table.alpha for name, table in config.regularizers.items()} == {"cql": 0.1}
    assert (config.output_layer.name, config.output_layer.hidden) == ("linear", 512)
    assert config.env.protocol == "machado"
    online = RunConfig.preset("hl_gauss")
    assert (config.head, config.env.support, config.torso) == (online.head, online.env.support, online.torso)


@pytest.mark.parametrize("name", preset_names())
def test_the_world_that_a_recipe_is_for(name):
    """Dopamine and BTR play by Machado et al. 2018; the others without sticky actions, a life at a time."""
    config = RunConfig.preset(name)
    if not config.env.id.startswith("ALE/") or name in ("pong", "cql"):  # which has steps of another kind
        return
    lives = name in ("pqn", "pqn_hadamax_hl_gauss", "aftab", "fe_rainbow", "bbf")
    assert config.env.protocol == ("dqn2015" if lives else "machado")
    assert config.steps == {"fe_rainbow": 10e6, "bbf": 100e3}.get(name, 200e6 / 4)
    assert config.env.kwargs == ({"noop_max": 30} if name.startswith("btr") else {})


def test_options_of_parts():
    btr, iqn, munchausen = (RunConfig.preset(name) for name in ("btr", "iqn", "m_dqn"))
    assert (btr.head.num_taus, btr.head.num_target_taus, btr.head.num_cosines, btr.head.kappa) == (8, 8, 64, 1)
    assert (iqn.head.num_taus, iqn.head.num_target_taus, iqn.head.num_acting_taus) == (64, 64, 32)
    assert RunConfig.preset("m_iqn").head == iqn.head
    for config, policy in ((btr, "online"), (munchausen, "target"), (RunConfig.preset("m_iqn"), "target")):
        rule = config.target_rule
        assert (rule.temperature, rule.scale, rule.clip, rule.policy) == (0.03, 0.9, -1, policy)
    assert RunConfig.preset("qr_dqn").head.num_quantiles == 200
    for name in ("c51", "two_hot", "hl_gauss", "softmoe", "rainbow", "rainbow_full", "pqn_hadamax_hl_gauss", "aftab"):
        config = RunConfig.preset(name)
        assert (config.head.num_bins, config.env.support) == (51, (-10, 10))
    assert RunConfig.preset("hl_gauss").head.sigma_ratio == 0.75
    assert RunConfig.preset("softmoe").output_layer.hidden is None


def test_ensembles():
    """[O] and [T]: ten members, all of which learn from every transition."""
    for name in ("bootstrapped_dqn", "aftab"):
        config = RunConfig.preset(name)
        assert (config.head.members, config.agent.bootstrap_probability) == (10, 1.0)
        assert config.exploration.name == "bootstrapped"


SIBLINGS = {
    "dqn": ("atari", {"head": "mse"}),
    "c51": ("atari", {"head": "c51"}),
    "two_hot": ("atari", {"head": "two_hot"}),
    "hl_gauss": ("atari", {"head": "hl_gauss"}),
    "double_dqn": ("dqn", {"target_rule": "double_q_learning"}),
    "bootstrapped_dqn": (
        "double_dqn",
        {"head.members": 10, "exploration": "bootstrapped", "torso.padding": "valid"},
    ),
    "aftab": (
        "pqn_hadamax_hl_gauss",
        {
            "head.members": 10,
            "exploration": "bootstrapped",
            "exploration.epsilon_start": 1.0,
            "exploration.epsilon_end": 0.001,
            "exploration.epsilon_steps": 5_000_000,
        },
    ),
    "dueling": ("double_dqn", {"output_layer": "dueling", "agent.max_grad_norm": 10.0}),
    "m_iqn": ("m_dqn", {"head": "iqn"}),
    "btr_hl_gauss": ("btr", {"head": "hl_gauss", "head.num_bins": 777}),
    "softmoe": (
        "hl_gauss",
        {"torso": "soft_moe", "torso.num_experts": 8, "output_layer.hidden": None},
    ),
    "hl_gauss_minatar": ("dqn_minatar", {"head": "hl_gauss", "agent.lr": 1e-3}),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_what_one_recipe_has_that_another_has_not(name):
    """Recipes are complete, and so would drift apart: these differ in what is said here and in nothing else."""
    base, changes = SIBLINGS[name]
    assert RunConfig.preset(name).plain() == RunConfig.preset(base, changes).plain()


def test_the_support_of_btr_holds_every_return():
    """The largest and the smallest return step by step: rewards of 1 or -1 at every decision, n = 3, 18 actions.

    Every third decision begins a backup, with Munchausen's bonus in [scale * clip, 0] there and the entropy of the
    policy in [0, tau log 18] after it.
    """
    config = RunConfig.preset("btr_hl_gauss")
    rule, gamma, n = config.target_rule, config.agent.gamma, config.agent.n_step
    largest = smallest = 0.0
    for t in range(20_000):
        discount = gamma**t
        largest, smallest = largest + discount, smallest - discount
        if t % n == 0:
            smallest += discount * rule.scale * rule.clip
            largest += discount * gamma**n * rule.temperature * math.log(18)
    v_min, v_max = config.env.support
    assert v_min < smallest < v_min + 1
    assert v_max - 1 < largest < v_max
    assert (v_max - v_min) / config.head.num_bins == 1.0
    assert RunConfig.preset("btr").env.support == (v_min, v_max)

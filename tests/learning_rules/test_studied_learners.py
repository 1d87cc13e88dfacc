"""Do studies of the paper measure what they say? Against plain loops of torch, and against Q*."""

import copy

import numpy as np
import pytest
import torch

from agents.experiments.studies.known_values import KnownValues, Sampler
from agents.experiments.studies.paper import read_question
from agents.experiments.studies.plasticity import Plasticity
from agents.experiments.studies.small_learners import generators, make_network
from agents.seeding import child_seed
from envs.dynamic_programming import optimal_q
from envs.toy import Catch, Chain
from value_heads import Atoms


def small(name, kind, **changes):
    question = read_question(name, tiny=True)
    assert isinstance(question, kind)
    return question.model_copy(update=changes)


@pytest.mark.parametrize("arm", ["mse", "hl_gauss"])
def test_plasticity_is_a_plain_regression(arm):
    question = small("plasticity", Plasticity, offsets=[0.0, 8.0], steps=30)
    rows = question.measure(arm, None)  # pyright: ignore[reportArgumentType]
    seed = 2
    network = make_network(question.arms[arm], (64,), 1, question.hidden, question.support, child_seed(seed, "weights"))
    optimizer = torch.optim.Adam(network.parameters(), lr=question.lr)
    (inputs,), (draws,) = generators([seed], "inputs"), generators([seed], "batches")
    x = torch.randn(question.num_inputs, 64, generator=inputs)
    for phase, b in enumerate(question.offsets):
        f = make_network({"name": "mse"}, (64,), 1, question.hidden, (-1, 1), child_seed(seed, f"target {phase}"))
        with torch.no_grad():
            y = torch.sin(12 * f(x).mean()[:, 0]) + b
        for _ in range(question.steps):
            picked = torch.randint(len(x), (question.batch_size,), generator=draws)
            loss = network(x[picked]).select(torch.zeros(len(picked), dtype=torch.int64)).loss(Atoms.at(y[picked]))
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
        with torch.no_grad():
            error = ((network(x).mean()[:, 0] - y) ** 2).mean().log10().item()
        (found,) = [row.value for row in rows if (row.condition, row.seed) == (f"b = {b:g}", seed)]
        assert found == pytest.approx(error, abs=1e-4)  # float32, and sums in another order


@pytest.mark.parametrize("env", [Catch(slip=0.4, reward_noise=0.5), Chain(length=3, slip=0.2)], ids=["catch", "chain"])
def test_transitions_are_those_of_the_model(env):
    model, size = env.transition_model(), 40_000
    num_states, num_actions, _ = model.probs.shape
    number = torch.arange(len(model.terminal))  # a state is observed as its number
    batch = Sampler(model, env.reward_noise, 0.9, size).batch(number, generators([1], "t"))
    state, action, successor = (t[0].numpy() for t in (batch.obs, batch.action, batch.next_obs))
    counts = np.zeros_like(model.probs)
    np.add.at(counts, (state, action, successor), 1)
    expected = model.probs * size / (num_states * num_actions)
    assert counts[expected == 0].sum() == 0
    assert (np.abs(counts - expected) <= 6 * np.sqrt(expected) + 1e-9).all()  # Poisson, some thousand of them
    noise = batch.reward[0].numpy() - model.reward[state, action, successor]
    assert np.abs(noise).max() <= env.reward_noise + 1e-6
    assert np.abs(noise).max() >= 0.99 * env.reward_noise
    assert abs(noise.mean()) <= 5 * env.reward_noise / (3 * size) ** 0.5 + 1e-6
    np.testing.assert_array_equal(batch.discount[0].numpy() == 0, model.terminal[successor])
    assert set(np.unique(batch.discount[0].numpy())) == {np.float32(0), np.float32(0.9)}


def test_errors_and_regrets_are_those_of_the_networks():
    """What a study writes down of untrained networks, against the same networks asked one by one."""
    world = {"chain": {"id": "chain", "kwargs": {"length": 4, "slip": 0.2}}}
    data = read_question("known_values", tiny=True).model_dump() | {"worlds": world, "updates": 1, "lr": 1e-12}
    weights = {"mse @ x": 0.0, "mse @ y": 0.0}
    data |= {"measured_at": [1.0], "secondary": {}, "conditions": {"x": {}, "y": {}}, "arms": {"mse": {"name": "mse"}}}
    question = KnownValues.model_validate(data | {"primary": {"says": "", "weights": weights}})
    rows = question.measure("mse @ x @ chain", None)  # pyright: ignore[reportArgumentType]
    model = Chain(length=4, slip=0.2).transition_model()
    best = optimal_q(model, question.gamma)
    for seed in question.all_seeds():
        made_from = child_seed(seed, "weights")
        network = make_network({"name": "mse"}, (4,), 2, question.hidden, question.support, made_from)
        with torch.no_grad():
            q = network(torch.eye(4)).mean().double().numpy()
        found = {row.task: row.value for row in rows if row.seed == seed}
        assert found["error"] == pytest.approx(np.log10(np.sqrt(np.mean((q - best) ** 2))), abs=1e-5)
        greedy = q.argmax(-1)  # its values by going on for long
        values = np.zeros(4)
        for _ in range(3_000):
            backed_up = model.backup(values, question.gamma)
            values = backed_up[np.arange(4), greedy]
        assert found["regret"] == pytest.approx((best.max(-1) - values).mean(), abs=1e-9)


@pytest.mark.parametrize("head", [{"name": "mse"}, {"name": "hl_gauss", "num_bins": 21}])
def test_q_learning_finds_the_known_values(head):
    """Half the length of the chain, deterministic: from an error of 0.9 to one of 0.03 in a few hundred updates."""
    world = {"chain": {"id": "chain", "kwargs": {"length": 4, "slip": 0.0}}}
    data = copy.deepcopy(read_question("known_values", tiny=True).model_dump())
    data |= {"worlds": world, "updates": 400, "lr": 5e-3, "hidden": [32], "batch_size": 32, "gamma": 0.9}
    data |= {"target_every_updates": 10, "measured_at": [0.01, 1.0], "secondary": {}, "arms": {"head": head}}
    weights = {"head @ 1%": 1.0, "head @ 100%": -1.0}
    question = KnownValues.model_validate(data | {"primary": {"says": "progress", "weights": weights}})
    rows = question.measure("head @  @ chain", None)  # pyright: ignore[reportArgumentType]
    found = {(r.condition, r.task, r.seed): r.value for r in rows}
    for seed in question.all_seeds():
        assert found["100%", "error", seed] < -1.3 < -0.3 < found["1%", "error", seed]
        assert found["100%", "regret", seed] == pytest.approx(0, abs=1e-9)


def test_sigma_in_units_of_return_and_where_a_head_starts():
    def made(support, **options):
        return make_network({"name": "hl_gauss", "num_bins": 40, **options}, (3,), 2, [8], support, 0)

    assert made((-4.0, 4.0), sigma=0.12).head.encoding.sigma == pytest.approx(0.12)  # pyright: ignore
    obs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    for start, mean in (("zero", 0.0), ("middle", 6.0)):
        with torch.no_grad():
            predicted = made((-2.0, 14.0), start=start)(obs).mean().mean().item()
        assert predicted == pytest.approx(mean, abs=0.5)  # up to the random weights

"""The loss of sequences: is it R2D2's, and does nothing count in it that should not?

T steps that are trained, L burn-in steps before them, B batch, H units of the LSTM.
"""

import copy

import numpy as np
import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import SequenceBatch
from agents.learning.learner import Learner
from agents.learning.sequences import SequenceTDLoss
from agents.learning.targets import TARGET_RULES
from agents.networks.recurrent import Memory, RecurrentQNetwork, make_lstm
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

L, T, B, A, H = 2, 4, 5, 3, 6


def make_network(head="mse", seed=0, **options):
    torch.manual_seed(seed)
    torso, lstm = MLP((3,), hidden=(5,)), make_lstm(5, A, H)
    made = make_head(head, in_features=H, num_actions=A, support=(-4, 4), **TINY.get(head, {}), **options)
    return RecurrentQNetwork(torso, lstm, made, A)


def make_learner(head="mse", rule="double_q_learning", **options):
    learner = Learner(
        make_network(head, **options),
        TARGET_RULES[rule],
        td_loss=SequenceTDLoss,
        lr=0.01,
        adam_eps=1e-3,
        max_grad_norm=None,
        target_every_updates=100,
        seed=0,
    )
    learner.target.load_state_dict(make_network(head, seed=1, **options).state_dict())
    return learner


def make_batch(seed=0):
    """Sequences of 4, 1, 3, 4 and 2 real steps, of which the second and fourth start with their episode."""
    g = torch.Generator().manual_seed(seed)
    length = torch.tensor([4, 1, 3, 4, 2])
    time = torch.arange(T).unsqueeze(-1)
    real = time < length
    position = torch.where(real, time, 0)
    last_action = torch.randint(A, (L + T + 1, B), generator=g)
    last_action[L, [1, 3]] = -1
    return SequenceBatch(
        obs=torch.randn(L + T + 1, B, 3, generator=g),
        last_action=last_action,
        last_reward=torch.randn(L + T + 1, B, generator=g) * 3,
        state=torch.randn(B, 2 * H, generator=g) * torch.tensor([1, 0, 1, 0, 1]).unsqueeze(-1),
        burnt_in=torch.tensor([True, False, True, False, True]),
        action=torch.randint(A, (T, B), generator=g),
        reward=torch.randn(T, B, generator=g) * 20,
        discount=0.9 * (torch.rand(T, B, generator=g) > 0.2).float(),
        position=position,
        next_position=torch.minimum(position + 2, length),
        real=real,
        weight=torch.rand(B, generator=g) + 0.5,
        next_action=torch.randint(-1, A, (T, B), generator=g),
        next_mask=torch.ones(T, B, A, dtype=torch.bool),
        mask=torch.ones(T, B, A, dtype=torch.bool),
    )


# The oracle: numpy in float64, one step of one sequence after the other.


def h(x):
    """Kapturowski et al. 2019, s. 2.3: h(x) = sign(x) (sqrt(|x| + 1) - 1) + 1e-3 x."""
    return np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x


def h_inverse(y):
    """By bisection of h, which grows; h(1e6) > 1e3."""
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if h(middle) < y else (low, middle)
    return (low + high) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def q_of_sequence(network, obs, last_action, last_reward, state):
    """Outputs [steps][A] of a network with a linear head; the gates are in the order i, f, g, o."""
    w = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}
    hidden, cell = state[:H], state[H:]
    outputs = []
    for x, a, r in zip(obs, last_action, last_reward, strict=True):
        features = np.maximum(w["torso.layers.1.weight"] @ x + w["torso.layers.1.bias"], 0)
        x = np.concatenate([features, [float(a == i) for i in range(A)], [np.tanh(r)]])
        gates = w["lstm.weight_ih_l0"] @ x + w["lstm.bias_ih_l0"] + w["lstm.weight_hh_l0"] @ hidden
        i, f, g, o = np.split(gates + w["lstm.bias_hh_l0"], 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(w["head.output.last.weight"] @ hidden + w["head.output.last.bias"])
    return outputs


def test_it_is_the_loss_of_r2d2():
    """(h(r + discount h^-1(Q_target(s', argmax Q_online))) - Q_online(s, a))**2, in loops of float64."""
    learner, batch = make_learner(transform="hyperbolic"), make_batch()
    update = learner.td_loss(batch)
    total, errors = 0.0, np.zeros((T, B))
    x = batch._replace(**{k: v.double() for k, v in batch._asdict().items() if v is not None and v.is_floating_point()})
    x = type(x)(*(v if v is None else v.numpy() for v in x))
    for b in range(B):
        start = 0 if x.burnt_in[b] else L
        columns = [v[start:, b] for v in (x.obs, x.last_action, x.last_reward)]
        online, target = (q_of_sequence(n, *columns, x.state[b])[L - start :] for n in (learner.online, learner.target))
        for t in range(int(x.real[:, b].sum())):
            best = int(np.argmax(online[x.next_position[t, b]]))
            goal = x.reward[t, b] + x.discount[t, b] * h_inverse(target[x.next_position[t, b]][best])
            predicted = online[t][x.action[t, b]]
            total += x.weight[b] * (h(goal) - predicted) ** 2
            errors[t, b] = goal - h_inverse(predicted)
    # float32 against float64, sums of up to twenty terms.
    assert update.loss.item() == pytest.approx(total / (T * B), rel=1e-5)
    found = update.td_error.view(T, B).numpy()
    np.testing.assert_allclose(found[x.real], errors[x.real], rtol=1e-4, atol=1e-5)


def test_the_rescaling_is_that_of_the_paper():
    """Values by hand: h(3) = sqrt(4) - 1 + 0.003, h(-8) = -(sqrt(9) - 1) - 0.008; and there and back."""
    transform = make_network(transform="hyperbolic").head.transform
    x = torch.tensor([3.0, -8.0, 0.0, 99.0])
    torch.testing.assert_close(transform.forward(x), torch.tensor([1.003, -2.008, 0.0, 9.099]))
    torch.testing.assert_close(transform.inverse(transform.forward(x)), x)


@pytest.mark.parametrize("head", HEADS)
def test_padding_does_not_count(head):
    """To the bit: neither in the loss nor in its gradient, whatever is in rows before a start and after an end."""
    learner, batch = make_learner(head), make_batch()
    noise = make_batch(seed=7)
    length = batch.real.sum(0)
    time = torch.arange(-L, T + 1).unsqueeze(-1)
    padding = (time > length) | ((time < 0) & ~batch.burnt_in)
    assert padding.any(1)[0], "before a start"
    assert padding.any(1)[-1], "after an end"
    changed = batch._replace(
        obs=torch.where(padding.unsqueeze(-1), noise.obs, batch.obs),
        last_action=torch.where(padding, noise.last_action, batch.last_action),
        last_reward=torch.where(padding, noise.last_reward, batch.last_reward),
        action=torch.where(batch.real, batch.action, noise.action),
        reward=torch.where(batch.real, batch.reward, noise.reward),
        discount=torch.where(batch.real, batch.discount, noise.discount),
    )
    results = []
    for given in (batch, changed):
        again = copy.deepcopy(learner)
        update = again.update(given)
        real = batch.real.flatten()
        results.append((update.loss, update.td_error[real], again.last.gradients))
    (loss, errors, gradients), (other_loss, other_errors, other_gradients) = results
    assert torch.equal(loss, other_loss)
    assert torch.equal(errors, other_errors)
    assert all(torch.equal(a, b) for a, b in zip(gradients, other_gradients, strict=True))


def test_burn_in_changes_the_loss_and_gets_no_gradient():
    learner, batch = make_learner(), make_batch()
    obs, state = batch.obs.clone().requires_grad_(), batch.state.clone().requires_grad_()
    loss = learner.td_loss(batch._replace(obs=obs, state=state)).loss
    loss.backward()
    of_time = obs.grad.abs().sum((1, 2))
    assert (of_time[:L] == 0).all()
    assert (of_time[L : L + T] > 0).all()
    assert (state.grad[batch.burnt_in] == 0).all()
    earlier = batch.obs.clone()
    earlier[0] += 1
    assert learner.td_loss(batch._replace(obs=earlier)).loss != loss
    assert all(p.grad is None for p in learner.target.parameters())


def test_without_burn_in_the_stored_state_is_used():
    learner, batch = make_learner(), make_batch()
    short = batch._replace(**{name: getattr(batch, name)[L:] for name in ("obs", "last_action", "last_reward")})
    found = learner.td_loss(short).losses
    expected = learner.td_loss(batch._replace(burnt_in=torch.zeros(B, dtype=torch.bool))).losses
    assert torch.equal(found, expected)


def test_it_is_what_acting_sees():
    """The features of a sequence are those of a memory that goes through it step by step."""
    network, batch = make_network(), make_batch()
    unrolled = SequenceTDLoss(network, network, TARGET_RULES["q_learning"]).unroll(network, batch)
    memory = Memory(network, B)
    memory.state = batch.state
    for time in range(-L, T + 1):
        if time == 0:
            memory.state = torch.where(batch.burnt_in.unsqueeze(-1), memory.state, batch.state)
        memory.action, memory.reward = batch.last_action[L + time], batch.last_reward[L + time]
        values = memory.values(batch.obs[L + time])
        if time >= 0:
            places = time * B + torch.arange(B)
            torch.testing.assert_close(values.mean(), unrolled(places).mean(), rtol=1e-5, atol=1e-6)
        memory.advance(np.zeros(B, int), np.zeros(B))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", TARGET_RULES)
def test_every_head_and_rule(head, rule):
    learner, batch = make_learner(head, rule), make_batch()
    before = {name: value.clone() for name, value in learner.target.state_dict().items()}
    update = learner.update(batch)
    assert update.losses.shape == update.td_error.shape == (T * B,)
    assert update.loss.isfinite()
    named = dict(learner.online.named_parameters())  # whose gradients lie in one piece
    parts = learner.last.gradients[0].split([weight.numel() for weight in named.values()])
    gradients = dict(zip(named, parts, strict=True))
    assert all(g.isfinite().all() for g in gradients.values())
    assert all(g.any() for name, g in gradients.items() if name.startswith("lstm"))
    assert all(torch.equal(value, learner.target.state_dict()[name]) for name, value in before.items())


def test_a_batch_moves_and_is_counted():
    batch = make_batch()
    assert (batch.size, batch.burn_in) == (T * B, L)
    moved = batch._replace(next_action=None).to(torch.device("cpu"))
    assert moved.next_action is None
    assert torch.equal(moved.obs, batch.obs)


def test_a_recurrent_network_has_no_values_of_observations_alone():
    with pytest.raises(TypeError, match="no values of observations alone"):
        make_network()(torch.zeros(1, 3))


def test_forget_gates_start_at_one():
    torch.manual_seed(0)
    biases = make_lstm(3, 2, 50).bias_ih_l0.detach().view(4, 50).mean(1)
    np.testing.assert_allclose(biases, [0, 1, 0, 0], atol=0.05)

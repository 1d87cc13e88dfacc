"""Every direct loss on one small example, worked out again by loops; its limiting cases; its gradient.

Five bins at -2 .. 2, logits (.2, -.4, 1, .5, -1.3), a return of 0.3 as two-hot and as HL-Gauss (sigma 0.75 bins). The
tables have four or five digits. Loops are plain Python and know nothing of torch.

Dimensions: B batch, m bins.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from value_heads import LOSSES
from value_heads.losses.cosine import CosineLayer, ElasticArc, ElasticCos
from value_heads.losses.density_ratio import density_ratio
from value_heads.losses.geometry import AnchorLayer, HyperbolicLayer, hyperbolic_logits
from value_heads.losses.margin import margin_cross_entropy, with_margin, without_margin
from value_heads.losses.random_proper import literal_gradient, random_weight

LOGITS = (0.2, -0.4, 1.0, 0.5, -1.3)
TWO_HOT = (0.0, 0.0, 0.7, 0.3, 0.0)
HL_GAUSS = tuple(np.diff([math.erf((e - 0.3) / (0.75 * math.sqrt(2))) for e in np.arange(-2.5, 3)]))
HL_GAUSS = tuple(q / sum(HL_GAUSS) for q in HL_GAUSS)
CENTERS = (-2, -1, 0, 1, 2)
SOFTMAX = tuple(math.exp(f) / sum(map(math.exp, LOGITS)) for f in LOGITS)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def softmax(logits):
    top = max(logits)
    weights = [math.exp(f - top) for f in logits]
    return [w / sum(weights) for w in weights]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softplus(x):
    return math.log1p(math.exp(x))


# -- loops: one row each, (logits, target) -> loss ---------------------------------------------------------------------


def loop_margin(logits, target, margin):
    total = 0.0
    for y, q in enumerate(target):
        inside = sum(math.exp(f + (margin if k != y else 0)) for k, f in enumerate(logits))
        total += q * (math.log(inside) - logits[y])
    return total


def loop_ldr(logits, target, temperature, margin):
    total = 0.0
    for y, q in enumerate(target):
        terms = [math.exp((f + (margin if k != y else 0) - logits[y]) / temperature) for k, f in enumerate(logits)]
        total += q * temperature * math.log(sum(terms))
    return total


def own_temperature(logits, t0, alpha):
    log_m = math.log(len(logits))

    def excess(t):
        kl = log_m + sum(p * math.log(p) for p in softmax([f / t for f in logits]) if p > 0)
        return t0 * (1 - kl / (alpha * log_m)) - t

    return brentq(excess, t0 * (1 - 1 / alpha), t0, xtol=1e-14)


def loop_aldr(logits, target, t0, alpha):
    t, m = own_temperature(logits, t0, alpha), len(logits)
    robust = t * math.log(sum(math.exp(f / t) for f in logits) / m)
    mean = sum(q * f for q, f in zip(target, logits, strict=True))
    return robust - mean - alpha * math.log(m) / (2 * t0) * (t - t0) ** 2 + t0 * math.log(m)


def loop_brier(logits, target):
    return sum((p - q) ** 2 for p, q in zip(softmax(logits), target, strict=True))


def loop_edges(logits, target, power):
    predicted = softmax(logits)
    return sum(abs(sum(predicted[:k]) - sum(target[:k])) ** power for k in range(1, len(target)))


def loop_cross_entropy(logits, target):
    return -sum(q * math.log(p) for p, q in zip(softmax(logits), target, strict=True))


def loop_top_k(logits, target, kappa, alpha):
    t = brentq(lambda t: sum(sigmoid(alpha * (f + t)) for f in logits) - kappa, -60, 60, xtol=1e-14)
    return sum(q * softplus(-alpha * (f + t)) for f, q in zip(logits, target, strict=True))


def loop_decoupled(logits, target, positive_mass=1e-3):
    right = {k for k, q in enumerate(target) if q > max(positive_mass, min(target))}
    negatives = sum(math.exp(f) for k, f in enumerate(logits) if k not in right)
    return sum(target[y] * math.log(1 + negatives / math.exp(logits[y])) for y in right)


def standardise(logits):
    mean = sum(logits) / len(logits)
    deviation = math.sqrt(sum((f - mean) ** 2 for f in logits) / len(logits) + 1e-6)
    return [(f - mean) / deviation for f in logits]


def loop_z(logits, target, a, b):
    return sum(q * softplus(a * (b - z)) / a for z, q in zip(standardise(logits), target, strict=True))


def loop_arc(logits, target, scale, margin):
    """Through angles: what stands for the logit of the label is s cos(theta + M)."""
    total = 0.0
    for y, q in enumerate(target):
        moved = scale * math.cos(math.acos(logits[y] / scale) + margin)
        others = sum(math.exp(f) for k, f in enumerate(logits) if k != y)
        total += q * (math.log(math.exp(moved) + others) - moved)
    return total


LOOPS = {
    "ldr_kl": ({"temperature": 2.0, "margin": 0.3}, lambda f, q: loop_ldr(f, q, 2.0, 0.3)),
    "aldr_kl": ({"temperature": 1.5, "alpha": 2.5}, lambda f, q: loop_aldr(f, q, 1.5, 2.5)),
    "margin_ce": ({"margin": 0.8}, lambda f, q: loop_margin(f, q, 0.8)),
    "brier": ({}, loop_brier),
    "cramer": ({}, lambda f, q: loop_edges(f, q, 2)),
    "cross_entropy_cramer": ({"cramer_weight": 0.5}, lambda f, q: loop_cross_entropy(f, q) + loop_edges(f, q, 2) / 2),
    "wasserstein": ({}, lambda f, q: loop_edges(f, q, 1)),
    "soft_top_k": ({"kappa": 1.5, "alpha": 1.3}, lambda f, q: loop_top_k(f, q, 1.5, 1.3)),
    "decoupled_softmax": ({}, loop_decoupled),
    "z_loss": ({"sharpness": 1.2, "offset": 2.0}, lambda f, q: loop_z(f, q, 1.2, 2.0)),
    "elastic_cos": ({"scale": 8.0, "margin": 0.1}, lambda f, q: loop_margin(f, q, 0.8)),
    "elastic_arc": ({"scale": 8.0, "margin": 0.1}, lambda f, q: loop_arc(f, q, 8.0, 0.1)),
    "hyperbolic_ce": ({}, loop_cross_entropy),
    "anchor_flow": ({}, loop_cross_entropy),
}
every_loop = pytest.mark.parametrize("loss", LOOPS)


@every_loop
@pytest.mark.parametrize("num_bins", [2, 7, 31])
def test_loops(loss, num_bins):
    options, loop = LOOPS[loss]
    rng = np.random.default_rng(num_bins)
    logits, target = 2 * rng.standard_normal((9, num_bins)), rng.dirichlet(np.full(num_bins, 0.5), 9)
    got = LOSSES[loss](**options)(tensor(logits), tensor(target))
    expected = [loop(f.tolist(), q.tolist()) for f, q in zip(logits, target, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)  # float64; bisection leaves 1e-11


@every_loop
def test_gradients_are_those_of_the_loops(loss):
    """By central differences of the loops; in float64 they are good to 1e-8."""
    options, loop = LOOPS[loss]
    rng = np.random.default_rng(1)
    logits, target = 1.5 * rng.standard_normal(6), rng.dirichlet(np.full(6, 0.5))
    given = tensor(logits).unsqueeze(0).requires_grad_()
    LOSSES[loss](**options)(given, tensor(target).unsqueeze(0)).sum().backward()
    for k, step in enumerate(np.eye(6) * 1e-5):
        expected = (loop((logits + step).tolist(), target) - loop((logits - step).tolist(), target)) / 2e-5
        assert given.grad[0, k].item() == pytest.approx(expected, abs=1e-7)


# name, options, loss of two-hot, of HL-Gauss, and the gradient of the first where it is in the table
LOG_5 = math.log(5)
TABLE = [
    ("ldr_kl", {"temperature": 1.0, "margin": 0.0}, -0.58284 + LOG_5, -0.24447 + LOG_5, None),
    (
        "ldr_kl",
        {"temperature": 2.0, "margin": 0.0},
        -0.70399 + 2 * LOG_5,
        None,
        (0.2055, 0.1522, -0.3935, -0.0613, 0.0971),
    ),
    ("ldr_kl", {"temperature": 1.0, "margin": 0.1}, -0.51842 + LOG_5, None, None),
    ("aldr_kl", {"temperature": 1.0, "alpha": 2.0}, -0.57458 + LOG_5, None, None),
    ("margin_ce", {"margin": 0.8}, 1.59948, 1.98351, (0.235, 0.129, -0.3852, -0.0312, 0.0524)),
    ("elastic_cos", {"scale": 8.0, "margin": 0.1}, 1.59948, 1.98351, (0.235, 0.129, -0.3852, -0.0312, 0.0524)),
    ("cramer", {}, 0.12064, 0.06352, (0.134, 0.035, -0.099, -0.063, -0.007)),
    ("wasserstein", {}, 0.52422, 0.43652, (0.332, 0.080, -0.093, -0.309, -0.009)),
    ("soft_top_k", {"kappa": 1.0, "alpha": 2.0}, 0.88287, 1.41863, None),
    ("soft_top_k", {"kappa": 2.0, "alpha": 2.0}, 0.33628, None, None),
    ("decoupled_softmax", {}, 0.66149, None, None),
    ("z_loss", {"sharpness": 1.0, "offset": 2.0}, 1.26887, 1.62573, (0.2276, 0.0845, -0.1794, -0.0027, -0.13)),
]


@pytest.mark.parametrize(("loss", "options", "two_hot", "hl_gauss", "gradient"), TABLE)
def test_the_five_bin_example(loss, options, two_hot, hl_gauss, gradient):
    logits = tensor([LOGITS]).requires_grad_()
    criterion = LOSSES[loss](**options)
    value = criterion(logits, tensor([TWO_HOT]))
    value.sum().backward()
    assert value.item() == pytest.approx(two_hot, abs=6e-6)
    if hl_gauss is not None:
        assert criterion(logits, tensor([HL_GAUSS])).item() == pytest.approx(hl_gauss, abs=6e-6)
    if gradient is not None:
        np.testing.assert_allclose(logits.grad[0], gradient, atol=6e-4)


def test_links_of_the_five_bin_example():
    def decoded(loss, **options):
        probs = LOSSES[loss](**options).probs(tensor(LOGITS))
        return probs, float(probs @ tensor(CENTERS))

    probs, mean = decoded("margin_ce", margin=0.8)
    np.testing.assert_allclose(probs, (0.1989, 0.1148, 0.3803, 0.2577, 0.0483), atol=6e-5)
    assert mean == pytest.approx(-0.158, abs=6e-4)
    assert decoded("ldr_kl", temperature=2.0, margin=0.0)[1] == pytest.approx(-0.1303, abs=6e-5)
    np.testing.assert_allclose(decoded("soft_top_k")[0], (0.167, 0.057, 0.498, 0.268, 0.010), atol=6e-4)
    t = LOSSES["aldr_kl"]().own_temperature(tensor(LOGITS))
    assert t.item() == pytest.approx(0.9237, abs=6e-5)
    assert t.item() == pytest.approx(own_temperature(LOGITS, 1.0, 2.0), abs=1e-12)


def test_the_ordinal_example():
    logits, target = tensor([[1.5, 0.7, -0.2, -1.0]]), tensor([[0, 0, 0.7, 0.3, 0]])  # answers (1, 1, .3, 0)
    criterion = LOSSES["class_balanced_bce"]()
    assert criterion(logits, target).item() == pytest.approx(1.5760 + 0.1 * balance_term(), abs=1e-4)
    assert float(criterion.probs(logits)[0] @ tensor(CENTERS)) == pytest.approx(0.2049, abs=6e-5)


def balance_term():
    errors = [sigmoid(f) - t for f, t in zip((1.5, 0.7, -0.2, -1.0), (1, 1, 0.3, 0), strict=True)]
    return sum((a - b) ** 2 for a, b in itertools.pairwise(errors))


# -- limiting cases ---


def rows(num_bins=9, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    return tensor(scale * rng.standard_normal((7, num_bins))), tensor(rng.dirichlet(np.full(num_bins, 0.5), 7))


def test_a_margin_of_nothing_is_the_cross_entropy_and_ldr_is_a_margin():
    logits, target = rows()
    expected = LOSSES["cross_entropy"]()(logits, target)
    same = {
        "margin_ce": {"margin": 0.0},
        "ldr_kl": {"temperature": 1.0, "margin": 0.0},
        "elastic_cos": {"margin": 0.0},
        "elastic_arc": {"margin": 0.0},
        "cross_entropy_cramer": {"cramer_weight": 0.0},
    }
    for loss, options in same.items():
        torch.testing.assert_close(LOSSES[loss](**options)(logits, target), expected, atol=1e-10, rtol=1e-10)
    for margin in (0.3, 2.0):
        ldr = LOSSES["ldr_kl"](temperature=1.0, margin=margin)(logits, target)
        torch.testing.assert_close(ldr, LOSSES["margin_ce"](margin=margin)(logits, target), atol=0, rtol=0)


def test_a_temperature_of_nothing_is_the_hinge_of_crammer_and_singer():
    logits, target = rows()
    hinge = [
        sum(q * max(f + (0.5 if k != y else 0) for k, f in enumerate(row)) - q * row[y] for y, q in enumerate(label))
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    got = LOSSES["ldr_kl"](temperature=1e-3, margin=0.5)(logits, target)
    np.testing.assert_allclose(got, hinge, atol=1e-3 * math.log(9))


def test_a_rigid_temperature_is_ldr_and_every_other_lies_between():
    logits, target = rows()
    ldr = LOSSES["ldr_kl"](temperature=1.7, margin=0.0)(logits, target)
    torch.testing.assert_close(LOSSES["aldr_kl"](temperature=1.7, alpha=1e9)(logits, target), ldr, atol=1e-7, rtol=0)
    t = LOSSES["aldr_kl"](temperature=1.7, alpha=2.0).own_temperature(3 * logits)
    assert (t >= 0.85).all()
    assert (t <= 1.7).all()


def test_the_gradient_of_ldr_and_aldr_is_their_link_less_the_target():
    logits, target = rows()
    logits.requires_grad_()
    for criterion in (LOSSES["ldr_kl"](margin=0.0), LOSSES["aldr_kl"](temperature=1.5, alpha=2.0)):
        (gradient,) = torch.autograd.grad(criterion(logits, target).sum(), logits)
        torch.testing.assert_close(gradient, criterion.probs(logits) - target, atol=1e-9, rtol=0)


def test_the_temperature_has_a_gradient_of_its_own():
    """`probs` is differentiated by regularisers: against differences of the fixed point, found by brentq."""
    criterion, logits = LOSSES["aldr_kl"](), tensor(LOGITS).requires_grad_()
    (gradient,) = torch.autograd.grad(criterion.own_temperature(logits).sum(), logits)
    for k, step in enumerate(np.eye(5) * 1e-5):
        up, down = (own_temperature(np.array(LOGITS) + sign * step, 1.0, 2.0) for sign in (1, -1))
        assert gradient[k].item() == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_a_margin_and_back():
    probs = rows()[0].softmax(-1)
    for margin in (0.0, 0.5, 3.0, 22.4):
        torch.testing.assert_close(without_margin(with_margin(probs, margin), margin), probs, atol=1e-9, rtol=0)
        a, p = math.exp(min(margin, 30)), with_margin(probs, margin)
        weight = p * (a - (a - 1) * p)
        torch.testing.assert_close(weight / weight.sum(-1, keepdim=True), probs, atol=1e-7, rtol=0)


def test_the_likeliest_bin_keeps_its_digits():
    """Where p rounds to 1, log(1 - p) would be lost: what is left of the other bins is summed."""
    logits = torch.tensor([[60.0, 0.0, 0.0]])
    got = margin_cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]]), 0.0)
    assert got.item() == pytest.approx(2 * math.exp(-60), rel=1e-4)


def test_transport():
    """Between two points it is their distance; in general that of sorted samples, and the energy form for squares."""
    points = torch.eye(8, dtype=torch.float64)
    criterion = LOSSES["wasserstein"]()
    for i, j in itertools.product(range(8), repeat=2):
        certain = 800 * points[i : i + 1]
        assert criterion(certain, points[j : j + 1]).item() == pytest.approx(abs(i - j), abs=1e-9)
    logits, target = rows()
    p, q, index = logits.softmax(-1).numpy(), target.numpy(), np.arange(9)
    gaps = np.abs(index[:, None] - index)
    energy = [x @ gaps @ y - x @ gaps @ x / 2 - y @ gaps @ y / 2 for x, y in zip(p, q, strict=True)]
    np.testing.assert_allclose(LOSSES["cramer"]()(logits, target), energy, atol=1e-12)
    levels = (np.arange(200_000) + 0.5) / 200_000
    x, y = (np.searchsorted(np.cumsum(row), levels) for row in (p[0], q[0]))
    assert criterion(logits, target)[0].item() == pytest.approx(np.abs(x - y).mean(), abs=1e-3)  # 9 / 200,000 a bin
    assert (np.abs((p - q) @ index) <= criterion(logits, target).numpy() + 1e-12).all()


def test_soft_top_k():
    logits, target = rows()
    for kappa in (0.5, 1.0, 2.5):
        criterion = LOSSES["soft_top_k"](kappa=kappa)
        s = criterion.shifted(logits).sigmoid()
        np.testing.assert_allclose(s.sum(-1), kappa, atol=1e-9)
        moved = criterion(logits + 7, target)
        torch.testing.assert_close(moved, criterion(logits, target), atol=1e-9, rtol=0)
    pairs = logits[:, :2]
    torch.testing.assert_close(LOSSES["soft_top_k"]().probs(pairs), pairs.softmax(-1), atol=1e-9, rtol=0)


def test_decoupled_softmax_with_one_positive_is_the_cross_entropy():
    logits, target = rows()[0], torch.eye(9, dtype=torch.float64)[[1, 4, 8, 0, 2, 3, 3]]
    expected = LOSSES["cross_entropy"]()(logits, target)
    torch.testing.assert_close(LOSSES["decoupled_softmax"]()(logits, target), expected, atol=1e-12, rtol=1e-12)
    soft = tensor([HL_GAUSS])  # all five are positive: the least likely is taken for a negative
    assert LOSSES["decoupled_softmax"]()(tensor([LOGITS]), soft).item() > 0.1


def test_the_z_loss_knows_neither_scale_nor_shift():
    criterion, (logits, target) = LOSSES["z_loss"](), rows()
    logits = 1e3 * logits  # so that the 1e-6 of the variance does not count
    logits.requires_grad_()
    loss = criterion(logits, target)
    torch.testing.assert_close(criterion(3 * logits + 7, target), loss, atol=1e-9, rtol=0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    for direction in (logits.detach(), torch.ones_like(gradient)):
        scale = gradient.norm() * direction.norm()
        np.testing.assert_allclose((gradient * direction).sum(-1) / scale, 0, atol=1e-9)
    hinge = LOSSES["z_loss"](sharpness=1e4, offset=1.0)(logits, target)
    z = (logits - logits.mean(-1, keepdim=True)) / logits.std(-1, keepdim=True, correction=0)
    torch.testing.assert_close(hinge, (target * (1 - z).clamp(min=0)).sum(-1), atol=1e-3, rtol=0)
    np.testing.assert_allclose((z**2).sum(-1).detach(), 9)


def test_where_the_z_loss_is_stationary_its_link_gives_the_target():
    """q sigma(a (b - z)) = nu (z - floor) solved for q, for any z whose lower half is level."""
    a, b, z = 1.3, 2.0, np.array([0.0] * 12 + [1.0, 4.0, 2.5, 0.3])
    z = (z - z.mean()) / z.std()
    q = (z - z.min()) / np.array([sigmoid(a * (b - x)) for x in z])
    probs = LOSSES["z_loss"](sharpness=a, offset=b).probs(tensor(50 * z))
    np.testing.assert_allclose(probs, q / q.sum(), atol=1e-6)  # 1e-6 of the variance


# -- balanced, random, batch-coupled ---


def test_balanced_weights_are_those_of_the_others():
    """Row by row, against a loop; and the gradient is (u - t) w / (w u + 1 - u)."""
    rng = np.random.default_rng(0)
    target, logits = rng.dirichlet(np.full(6, 0.3), 8), rng.standard_normal((8, 5))
    answers = np.array([[sum(row[k + 1 :]) for k in range(5)] for row in target])
    criterion = LOSSES["class_balanced_bce"](max_weight=4.0, correlation=0.7)
    given = tensor(logits).requires_grad_()
    loss = criterion(given, tensor(target))
    loss.sum().backward()
    for i in range(8):
        others = np.delete(answers, i, 0)
        w = np.clip(((1 - others).sum(0) + 1e-3) / (others.sum(0) + 1e-3), 1 / 4, 4)
        u = 1 / (1 + np.exp(-logits[i]))
        f, t = logits[i] + np.log(w), answers[i]
        pull = u - t
        expected = sum(w * t * np.log1p(np.exp(-f)) + (1 - t) * np.log1p(np.exp(f))) + 0.7 * sum(np.diff(pull) ** 2)
        assert loss[i].item() == pytest.approx(expected, rel=1e-10)
        gaps = np.concatenate([[0], np.diff(pull), [0]])
        gradient = pull * w / (w * u + 1 - u) + 1.4 * (gaps[:-1] - gaps[1:]) * u * (1 - u)
        np.testing.assert_allclose(given.grad[i], gradient, atol=1e-10)


def test_balanced_weights_leave_the_mean_where_it_is():
    """100,000 batches of four random answers: at u = P(answer) the mean gradient is 0, though weights are random."""
    generator = torch.Generator().manual_seed(0)
    answers = (torch.rand(4, 100_000, generator=generator) < 0.2).double()
    u, w = 0.2, LOSSES["class_balanced_bce"]().weights(answers)
    assert w.min() < 0.5
    assert w.max() == 10
    pull = (u - answers) * w / (w * u + 1 - u)
    assert pull.mean().item() == pytest.approx(0, abs=4 * pull.std().item() / math.sqrt(pull.numel()))
    inclusive = ((4 - answers.sum(0) + 1e-3) / (answers.sum(0) + 1e-3)).clamp(0.1, 10)
    biased = (u - answers) * inclusive / (inclusive * u + 1 - u)
    assert biased.mean().item() > 20 * biased.std().item() / math.sqrt(biased.numel())  # a weight that knows its answer


def test_balance_of_nothing_is_ordinal_bce():
    logits, target = rows()
    got = LOSSES["class_balanced_bce"](max_weight=1.0, correlation=0.0)(logits[:, :8], target)
    torch.testing.assert_close(got, LOSSES["ordinal_bce"]()(logits[:, :8], target), atol=1e-12, rtol=1e-12)


def test_the_random_weight():
    """The table: rho .5, delta 1 on the ordinal example. With neither it is ordinal_bce."""
    logits = tensor([[1.5, 0.7, -0.2, -1.0]]).requires_grad_()
    target, u = tensor([TWO_HOT]), logits.detach().sigmoid()
    weight = random_weight(u, tensor([0.5]), tensor([1.0]))
    np.testing.assert_allclose(weight[0], (1.061, 1.114, 0.947, 0.704), atol=6e-4)
    criterion, plain = LOSSES["ensemble"](), LOSSES["ordinal_bce"]()(logits, target)
    for rho, delta, table in ((0.5, 1.0, (-0.194, -0.370, 0.142, 0.189)), (0.0, 0.0, (-0.182, -0.332, 0.150, 0.269))):
        loss = criterion(logits, target, draws={"rho": tensor([rho]), "delta": tensor([delta])})
        assert loss.item() == pytest.approx(plain.item(), abs=1e-12)  # the number that is shown
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        np.testing.assert_allclose(gradient[0], table, atol=6e-4)


def test_the_literal_gradient():
    """Margins (2, -.5, .3, 1.2) and derivatives -(.9, .6, .3, .1) give -(.05, .9, .6, .25)."""
    margins = tensor([[2.0], [-0.5], [0.3], [1.2]])
    normal = tensor([[0.3], [0.1], [0.9], [0.6]]).log()  # in an order of their own
    answers = tensor([[1.0], [1.0], [0.0], [1.0]])
    sign = tensor([[1.0], [1.0], [-1.0], [1.0]])
    gradient = literal_gradient(sign * margins, answers, normal)
    np.testing.assert_allclose(sign * gradient, [[-0.05], [-0.9], [-0.6], [-0.25]], atol=2e-6)


def test_the_categorical_ensemble_is_the_sum_of_its_scores():
    logits, target = rows()
    shares = tensor([[0.2, 0.5, 0.3]]).expand(7, 3)
    got = LOSSES["ensemble"](form="categorical")(logits, target, draws={"shares": shares})
    ce, brier, cramer = (LOSSES[name]()(logits, target) for name in ("cross_entropy", "brier", "cramer"))
    torch.testing.assert_close(got, 0.2 * ce + 0.5 * 3 * brier + 0.3 * cramer, atol=1e-12, rtol=1e-12)


def test_draws_of_the_ensemble_have_the_distribution_that_is_said():
    g = torch.Generator().manual_seed(0)
    seen = [LOSSES["ensemble"]().draw(3, 4, g) for _ in range(4000)]
    rho, delta = (torch.stack([d[name] for d in seen]) for name in ("rho", "delta"))
    assert (rho == rho[:, :1]).all()  # one loss for the whole batch
    # standard errors: .29 / 63, 2 / 63 and 2 / sqrt(8000)
    assert rho.mean().item() == pytest.approx(0.5, abs=0.02)
    assert delta.mean().item() == pytest.approx(0, abs=0.13)
    assert delta.std().item() == pytest.approx(2, abs=0.1)
    shares = torch.stack([LOSSES["ensemble"](form="categorical").draw(1, 4, g)["shares"][0] for _ in range(4000)])
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(shares.mean(0), 1 / 3, atol=0.015)  # Dirichlet(1, 1, 1): deviation sqrt(1 / 18)
    np.testing.assert_allclose(shares.var(0), 1 / 18, atol=0.004)


def test_density_ratio():
    """The table's three states and two bins; a factor of s cancels where nothing pins it."""
    logits, target = tensor([[1, -1], [-0.5, 0.8], [0.2, 0.1]]), tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    log_s = torch.nn.functional.logsigmoid(logits)
    free = density_ratio(log_s, target, 0.0)
    assert free.mean().item() == pytest.approx(-0.1359, abs=6e-5)
    moved = density_ratio(log_s + tensor([-0.7, -2.0]), target, 0.0)
    torch.testing.assert_close(moved, free, atol=1e-12, rtol=0)
    got = LOSSES["positive_unlabeled"](pin=0.3)(logits, target)
    s = 1 / (1 + np.exp(-logits.numpy()))
    for i in range(3):
        expected = sum(
            target[i, k].item() * (0.7 * math.log(s[:, k].mean()) - math.log(s[i, k])) + 0.3 * s[i, k] for k in range(2)
        )
        assert got[i].item() == pytest.approx(expected, abs=1e-12)
    ones = torch.ones(3, 1, dtype=torch.float64)
    assert density_ratio(torch.zeros(3, 1, dtype=torch.float64), ones, 0.0).abs().max() < 1e-12  # one bin says nothing


def test_density_ratios_are_the_distribution_of_every_state():
    """Six states, each with a distribution of its own: at the minimum over all of them the link gives each."""
    rng = np.random.default_rng(0)
    target = tensor(rng.dirichlet(np.full(8, 0.7), 6))
    criterion = LOSSES["positive_unlabeled"](pin=0.2)
    logits = torch.zeros(6, 8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=400, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = criterion(logits, target).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(criterion.probs(logits.detach()), target, atol=1e-4)
    # s itself, and not only its share: that is what the pin is for
    np.testing.assert_allclose(logits.detach().sigmoid(), target, atol=1e-4)


# -- elastic margins and layers of their own ---


def test_elastic_margins():
    """c = s (margin + std z) of each row; with plus the smallest goes to the row whose target is nearest."""
    logits, target = rows()
    draws = {"normal": tensor([0.5, -1.0, 2.0, 0.0, -0.3, 1.0, -2.0])}
    got = ElasticCos(scale=10.0, margin=0.1, margin_std=0.05)(logits, target, draws=draws)
    for row in range(7):
        margin = 10 * (0.1 + 0.05 * draws["normal"][row].item())
        assert got[row].item() == pytest.approx(loop_margin(logits[row].tolist(), target[row].tolist(), margin))
    plus = ElasticCos(scale=10.0, margin=0.1, margin_std=0.05, plus=True)
    near = (target * logits).sum(-1)
    margins = plus.margins(logits, target, draws).squeeze(-1)
    assert (margins[near.argsort(descending=True)].diff() > 0).all()
    np.testing.assert_allclose(margins.sort().values, (0.1 + 0.05 * draws["normal"]).sort().values)


def test_the_link_of_the_arc_is_where_its_gradient_vanishes_but_for_a_shift():
    """Against q = probs(l) the gradient is a multiple of softmax(l): zero where the shift of all is at its best."""
    criterion, logits = ElasticArc(scale=16.0, margin=0.05), rows(scale=3.0)[0].requires_grad_()
    target = criterion.probs(logits).detach()
    (gradient,) = torch.autograd.grad(criterion(logits, target).sum(), logits)
    ratio = gradient / logits.softmax(-1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), atol=1e-9, rtol=1e-7)


def test_cosine_layer():
    torch.manual_seed(0)
    layer = CosineLayer(5, 2, 3, scale=7.0).double()
    x = torch.randn(4, 5).double()
    w = layer.weight.detach().numpy()
    for b, k in itertools.product(range(4), range(6)):
        cosine = x[b].numpy() @ w[k] / np.linalg.norm(x[b]) / np.linalg.norm(w[k])
        assert layer(x)[b, k].item() == pytest.approx(7 * cosine + layer.bias[k].item(), abs=1e-9)
    torch.testing.assert_close(layer(100 * x), layer(x), atol=1e-9, rtol=0)


def test_hyperbolic_logits():
    """The table; against Moebius addition that is carried out; and for no curvature 4 <x - p, a>."""
    x, p, a = tensor([[0.5, 0.2]]), tensor([[0, 0], [0.3, -0.1]]), tensor([[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(hyperbolic_logits(x, p, a, 0.1), [[2.025, 1.026]], atol=6e-4)
    np.testing.assert_allclose(hyperbolic_logits(x, p, a, 1e-9), [[2.0, 1.0]], atol=1e-8)
    rng = np.random.default_rng(0)
    x, p, a = (rng.standard_normal((n, 6)) for n in (5, 4, 4))
    x, p = (0.9 * v / np.linalg.norm(v, axis=1, keepdims=True) * rng.uniform(0, 1, (len(v), 1)) for v in (x, p))
    got = hyperbolic_logits(tensor(x), tensor(p), tensor(a), 1.0)
    for b, k in itertools.product(range(5), range(4)):
        u, v = -p[k], x[b]
        above = (1 + 2 * u @ v + v @ v) * u + (1 - u @ u) * v
        w = above / (1 + 2 * u @ v + (u @ u) * (v @ v))
        length = np.linalg.norm(a[k])
        expected = 2 / (1 - u @ u) * length * np.arcsinh(2 * w @ a[k] / (length * (1 - w @ w)))
        assert got[b, k].item() == pytest.approx(expected, rel=1e-9)


def test_hyperbolic_layer_keeps_in_the_ball_and_is_linear_without_curvature():
    torch.manual_seed(0)
    layer = HyperbolicLayer(5, 2, 3, curvature=1e-6, radius=1e3)
    x = torch.randn(4, 5)
    with torch.no_grad():
        layer.points.normal_()
        expected = 4 * (x @ layer.weight.T - (layer.points * layer.weight).sum(-1)) + layer.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-3, rtol=1e-3)  # curvature 1e-6
    curved = HyperbolicLayer(5, 2, 3, curvature=0.5, radius=2.0)
    length = curved.into_ball(1e6 * x).norm(dim=-1)
    assert (length < 1 / math.sqrt(0.5)).all()
    np.testing.assert_allclose(length, math.tanh(math.sqrt(0.5) * 2) / math.sqrt(0.5), rtol=1e-5)
    assert curved.into_ball(torch.zeros(1, 5)).abs().max() == 0


def test_anchor_layer():
    """The posterior of anchors -1, 0, 1 at x = .3, from its definition, and the table at three times."""
    for time, table in ((0.9, (0.320, 0.335, 0.345)), (0.5, (0.137, 0.410, 0.453)), (0.2, (0, 0.881, 0.119))):
        layer = AnchorLayer(1, 1, 3, time=time)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[-1.0], [0.0], [1.0]]))
            layer.bias.zero_()
        probs = layer(torch.tensor([[0.3]])).softmax(-1)
        np.testing.assert_allclose(probs.detach()[0], table, atol=6e-4)
        distances = [-((0.3 - (1 - time) * anchor) ** 2) / (2 * time**2) for anchor in (-1, 0, 1)]
        np.testing.assert_allclose(probs.detach()[0], softmax(distances), atol=1e-6)
    late = AnchorLayer(4, 1, 3, time=1 - 1e-7)
    torch.testing.assert_close(late(torch.randn(2, 4)), late.bias.expand(2, 3), atol=1e-5, rtol=0)

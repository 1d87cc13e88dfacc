"""Every refusal of value_heads, with what its message says.

Dimensions: B batch, A actions, K atoms, F features.
"""

import math

import pytest
import torch

from value_heads import Atoms, make_head
from value_heads.base import Support
from value_heads.categorical import CategoricalHead
from value_heads.encodings import HLGauss, TwoHot
from value_heads.quantile import QuantileValues
from value_heads.registry import UnknownNameError


def make(name, support=(-1, 1), **options):
    return make_head(name, in_features=4, num_actions=2, support=support, **options)


@pytest.mark.parametrize(
    ("reward", "discount"), [((3, 1), (3,)), ((3,), (3, 1)), ((1,), (3,)), ((3,), ()), ((3, 5), (3, 5)), ((4,), (4,))]
)
def test_backup_of_other_shapes(reward, discount):
    atoms = Atoms(torch.zeros(3, 5), torch.full((3, 5), 0.2))
    with pytest.raises(ValueError, match=r"reward \(.*must have the batch shape of the atoms, \(3,\)") as caught:
        atoms.backup(torch.zeros(reward), torch.zeros(discount))
    assert str(reward) in str(caught.value)
    assert str(discount) in str(caught.value)


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()])
def test_select_of_other_shapes(shape):
    with pytest.raises(ValueError, match=r"action \(.*\) does not match outputs \(3, 2, 51\)"):
        make("hl_gauss")(torch.zeros(3, 4)).select(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("name", ["mse", "huber", "two_hot", "mse_softmax", "c51", "quantile", "iqn"])
def test_target_of_other_shapes(name):
    values = make(name)(torch.zeros(3, 4))
    chosen = values.select(torch.zeros(3, dtype=torch.int64))
    for shape in ((3,), (1, 5), (4, 1), (3, 2, 1)):
        with pytest.raises(ValueError, match=r"target atoms .* do not match selected outputs .*wanted \[B, K\]"):
            chosen.loss(Atoms(torch.zeros(shape), torch.ones(shape)))
    with pytest.raises(ValueError, match="call select first"):
        values.loss(Atoms.at(torch.zeros(3)))


@pytest.mark.parametrize("support", [(1, 1), (2, 1), (-math.inf, 1), (0, math.inf), (math.nan, 1)])
@pytest.mark.parametrize("name", ["one_hot", "two_hot", "hl_gauss", "c51", "bce"])
def test_support(name, support):
    with pytest.raises(ValueError, match=r"support must be \(v_min, v_max\) with v_min < v_max and both finite, got"):
        make(name, support)


@pytest.mark.parametrize("num_bins", [1, 0, -3])
def test_num_bins(num_bins):
    with pytest.raises(ValueError, match=f"num_bins must be at least 2 .*, got {num_bins}"):
        TwoHot(Support(0, 1), num_bins)


def test_num_bins_for_a_wide_padding():
    with pytest.raises(ValueError, match=r"more than twice the padding 2\.25, got 4"):
        HLGauss(Support(0, 1), 4, bin_placement="padded")
    HLGauss(Support(0, 1), 5, bin_placement="padded")


def test_decode():
    with pytest.raises(ValueError, match="decode must be 'mean_of_inverse' or 'inverse_of_mean', got 'mode'"):
        make("two_hot", decode="mode")


@pytest.mark.parametrize("ratio", [0, -0.5, math.nan])
def test_sigma_ratio(ratio):
    with pytest.raises(ValueError, match="sigma_ratio must be positive, got"):
        make("hl_gauss", sigma_ratio=ratio)


def test_bin_placement():
    with pytest.raises(ValueError, match="bin_placement must be one of edges, centered, padded, got 'middle'"):
        make("hl_gauss", bin_placement="middle")


def test_transform():
    with pytest.raises(UnknownNameError, match=r"unknown transform 'simlog'\. Did you mean 'symlog'"):
        make("hl_gauss", transform="simlog")
    with pytest.raises(UnknownNameError, match=r"unknown transform 'simlog'\. Did you mean 'symlog'"):
        make("mse", transform="simlog")


def test_bootstrap():
    with pytest.raises(ValueError, match="bootstrap must be 'mean' or 'distribution', got 'median'"):
        make("hl_gauss", bootstrap="median")


@pytest.mark.parametrize("name", ["hl_gauss", "one_hot"])
def test_biased_bootstrap(name):
    with pytest.raises(ValueError, match=f"encoding '{name}' .*is biased.*allow_biased = true"):
        make(name, bootstrap="distribution")
    make(name, bootstrap="distribution", allow_biased=True)


def test_a_distribution_whose_mean_is_not_what_acts():
    options = {"bootstrap": "distribution", "transform": "symlog", "decode": "inverse_of_mean"}
    with pytest.raises(ValueError, match=r"decode 'inverse_of_mean'\) is biased.*decode 'mean_of_inverse'"):
        make("categorical", encoding="two_hot", **options)


def test_a_head_from_outside_is_a_head():
    with pytest.raises(ValueError, match=r"head 'math:sqrt' is <built-in function sqrt>, wanted a subclass"):
        make("math:sqrt")


@pytest.mark.parametrize("name", [":x", "math:"])
def test_half_a_path(name):
    with pytest.raises(UnknownNameError, match=f"unknown head '{name}'"):
        make(name)


def test_unknown_head():
    with pytest.raises(
        UnknownNameError, match=r"unknown head 'hlgauss'. Did you mean 'hl_gauss'.*Choose from: .*two_hot"
    ):
        make("hlgauss")


def test_unknown_encoding():
    with pytest.raises(UnknownNameError, match=r"unknown encoding 'two_hott'\. Did you mean 'two_hot'"):
        make("categorical", encoding="two_hott")


def test_unknown_loss():
    with pytest.raises(UnknownNameError, match=r"unknown loss 'ordinal_bcee'\. Did you mean 'ordinal_bce'"):
        make("hl_gauss", loss="ordinal_bcee")


def test_unknown_option():
    with pytest.raises(TypeError, match=r"head 'hl_gauss' has no option 'sigma_ration'. Did you mean 'sigma_ratio'"):
        make("hl_gauss", sigma_ration=0.75)
    with pytest.raises(TypeError, match=r"head 'two_hot' has no option 'sigma_ratio'\..*It has: .*num_bins"):
        make("two_hot", sigma_ratio=0.75)


def test_unknown_option_of_the_class():
    with pytest.raises(
        TypeError, match="two_hot with cross_entropy has no option 'transfrom', did you mean 'transform'"
    ):
        CategoricalHead(4, 2, Support(0, 1), encoding="two_hot", transfrom="symlog")
    with pytest.raises(
        TypeError, match=r"two_hot with cross_entropy has no option 'xyz': it has \['transform', 'decode'"
    ):
        CategoricalHead(4, 2, Support(0, 1), encoding="two_hot", xyz=1)


@pytest.mark.parametrize("kappa", [0, -1.0])
def test_kappa_of_huber(kappa):
    with pytest.raises(ValueError, match="kappa must be positive, got"):
        make("huber", kappa=kappa)


@pytest.mark.parametrize("name", ["quantile", "iqn"])
def test_kappa_of_quantiles(name):
    with pytest.raises(ValueError, match="kappa must not be negative, got -1"):
        make(name, kappa=-1)
    make(name, kappa=0)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("quantile", "num_quantiles"),
        ("iqn", "num_taus"),
        ("iqn", "num_target_taus"),
        ("iqn", "num_acting_taus"),
        ("iqn", "num_cosines"),
    ],
)
def test_counts(name, count):
    with pytest.raises(ValueError, match=f"{count} must be at least 1, got 0"):
        make(name, **{count: 0})


@pytest.mark.parametrize("shape", [(4,), (1, 5), (3, 4), (3, 5, 1)])
def test_taus_of_other_shapes(shape):
    prediction = QuantileValues(torch.zeros(3, 5), torch.full(shape, 0.5), 1.0)
    with pytest.raises(ValueError, match=r"taus \(.*\) do not match quantiles \(3, 5\)"):
        prediction.loss(Atoms.at(torch.zeros(3)))


@pytest.mark.parametrize("shape", [(3, 1), (5,), (1, 5), (3, 4)])
@pytest.mark.parametrize("name", ["mse", "two_hot", "mse_softmax", "c51", "quantile"])
def test_target_masses_of_other_shapes(name, shape):
    """[B, 1] against values [B, K] would count every atom with the mass of one: a loss K times too large."""
    chosen = make(name)(torch.zeros(3, 4)).select(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"target atoms \(3, 5\) with masses \(.*\) do not match") as caught:
        chosen.loss(Atoms(torch.zeros(3, 5), torch.ones(shape)))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 1), (2,), (1, 2), (2, 3), (3, 2, 1)])
@pytest.mark.parametrize("name", ["mse", "two_hot", "c51", "quantile"])
def test_soft_backup_of_other_shapes(name, shape):
    """A policy [B, 1] would give every action the whole mass."""
    values, policy = make(name)(torch.zeros(3, 4)), torch.full((3, 2), 0.5)
    with pytest.raises(ValueError, match=r"policy \(.*must have the shape \(3, 2\)"):
        values.average(torch.full(shape, 0.5))
    with pytest.raises(ValueError, match=r"offset \(.*must have the shape \(3, 2\)"):
        values.average(policy, torch.zeros(shape))


OPTIONS_OF_LOSSES = [
    ("margin_ce", {"margin": -0.1}, r"margin must not be negative, got -0\.1"),
    ("ldr_kl", {"margin": -0.1}, r"margin must not be negative, got -0\.1"),
    ("ldr_kl", {"temperature": 0}, "temperature must be positive, got 0"),
    ("aldr_kl", {"temperature": math.nan}, "temperature must be positive, got nan"),
    ("aldr_kl", {"alpha": 1.0}, r"alpha must be above 1, below which .*, got 1\.0"),
    ("cross_entropy_cramer", {"cramer_weight": -1}, "cramer_weight must not be negative, got -1"),
    ("soft_top_k", {"kappa": 0}, "kappa and alpha must be positive, got 0 and 2.0"),
    ("soft_top_k", {"alpha": -1}, "kappa and alpha must be positive, got 1.0 and -1"),
    ("decoupled_softmax", {"positive_mass": 1}, r"positive_mass must be in \[0, 1\), got 1"),
    ("class_balanced_bce", {"max_weight": 0.5}, r"max_weight must be at least 1, got 0\.5"),
    ("class_balanced_bce", {"correlation": -1}, "correlation must not be negative, got -1"),
    ("ensemble", {"form": "both"}, "form must be 'ordinal', 'categorical' or 'literal', got 'both'"),
    ("z_loss", {"sharpness": 0}, r"sharpness and offset must be positive, got 0 and 4\.0"),
    ("z_loss", {"offset": 0}, r"sharpness and offset must be positive, got 1\.0 and 0"),
    ("positive_unlabeled", {"pin": 0}, r"pin must be in \(0, 1\], got 0"),
    ("elastic_cos", {"scale": 0}, "scale must be positive, got 0"),
    ("elastic_cos", {"margin": -1}, r"margin must be in \[0, pi / 2\) and margin_std not negative, got -1, 0\.0125"),
    ("elastic_arc", {"margin": 2}, r"margin must be in \[0, pi / 2\) and margin_std not negative, got 2, 0\.0125"),
    ("elastic_arc", {"margin_std": -1}, r"and margin_std not negative, got 0\.03, -1"),
    ("hyperbolic_ce", {"curvature": 0}, r"curvature and radius must be positive, got 0 and 2\.0"),
    ("hyperbolic_ce", {"radius": 0}, r"curvature and radius must be positive, got 0\.1 and 0"),
    ("anchor_flow", {"time": 1}, r"time must be in \(0, 1\), got 1"),
]


@pytest.mark.parametrize(("loss", "options", "message"), OPTIONS_OF_LOSSES)
def test_options_of_losses(loss, options, message):
    with pytest.raises(ValueError, match=message):
        make("hl_gauss", loss=loss, allow_biased=True, **options)


def test_more_right_bins_than_there_are():
    with pytest.raises(ValueError, match=r"kappa must be less than the number of bins 7, got 7\.0"):
        make("hl_gauss", loss="soft_top_k", kappa=7.0, num_bins=7, allow_biased=True)(torch.zeros(3, 4)).mean()


def test_an_option_of_another_loss():
    with pytest.raises(TypeError, match="head 'hl_gauss' has no option 'margin'"):
        make("hl_gauss", margin=0.3)
    make("hl_gauss", loss="margin_ce", margin=0.3)

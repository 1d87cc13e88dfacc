"""Finding components by name, and the options that a named head has."""

import sys
from importlib.metadata import EntryPoint

import pytest
import torch

import value_heads.registry
from value_heads import HEADS, LOSSES, Atoms, head_options, make_head
from value_heads.categorical import CategoricalHead
from value_heads.losses import CrossEntropy
from value_heads.registry import UnknownNameError, names, options_of, resolve
from value_heads.scalar import ScalarHead

GROUP = "classyq.losses"


@pytest.fixture
def installed(monkeypatch):
    """An entry point `outside`, and one that would shadow a built-in name."""
    points = [
        EntryPoint("outside", "collections:OrderedDict", GROUP),
        EntryPoint("cross_entropy", "collections:Counter", GROUP),
        EntryPoint("elsewhere", "collections:deque", "classyq.heads"),
    ]
    monkeypatch.setattr(value_heads.registry, "entry_points", lambda *, group: [p for p in points if p.group == group])


@pytest.fixture
def extension(monkeypatch, tmp_path):
    """A module outside of the package, with a head and a loss."""
    (tmp_path / "my_extension.py").write_text(
        "from value_heads.losses import CrossEntropy\n"
        "from value_heads.scalar import ScalarHead\n"
        "class DoubledLoss(CrossEntropy):\n"
        "    def __init__(self, *, factor: float = 2.0):\n"
        "        super().__init__()\n"
        "        self.factor = factor\n"
        "    def forward(self, logits, target, *, draws=None):\n"
        "        return self.factor * super().forward(logits, target)\n"
        "class MyHead(ScalarHead):\n"
        "    pass\n"
        "_hidden = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_extension"
    sys.modules.pop("my_extension", None)


def find(name):
    return resolve(LOSSES, name, kind="loss", group=GROUP)


def test_built_in():
    assert find("cross_entropy") is CrossEntropy


def test_entry_point(installed):
    from collections import OrderedDict

    assert find("outside") is OrderedDict
    assert find("cross_entropy") is CrossEntropy  # what is built in cannot be replaced from outside
    assert names(LOSSES, GROUP) == [*LOSSES, "outside"]


def test_entry_points_are_among_the_choices(installed):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'outside'.*Choose from: .*outside"):
        find("outsid")
    with pytest.raises(UnknownNameError):
        find("elsewhere")  # of another group


def test_module_and_attribute():
    assert find("value_heads.losses:CrossEntropy") is CrossEntropy


def test_unknown_name_has_the_choices_and_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        find("cross_entropi")
    assert str(caught.value).startswith("unknown loss 'cross_entropi'. Did you mean 'cross_entropy'?")
    assert str(caught.value).endswith(f"Choose from: {', '.join(sorted(LOSSES))}")
    assert isinstance(caught.value, ValueError)


def test_unknown_name_near_to_nothing():
    with pytest.raises(UnknownNameError, match=r"unknown loss 'zzz'\. Choose from"):
        find("zzz")


def test_missing_module():
    with pytest.raises(ValueError, match="loss 'no_such_module:Loss': module 'no_such_module' cannot be imported"):
        find("no_such_module:Loss")


def test_missing_attribute():
    with pytest.raises(
        UnknownNameError, match=r"unknown loss in value_heads.losses 'CrosEntropy'. Did you mean 'CrossE"
    ):
        find("value_heads.losses:CrosEntropy")


def test_an_error_inside_a_module_is_not_hidden(monkeypatch, tmp_path):
    (tmp_path / "broken_extension.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        find("broken_extension:Loss")


def test_options_of():
    def component(positional, *, width: int = 3, name: str = "a", **rest):
        pass

    options = options_of(component)
    assert list(options) == ["width", "name"]
    assert options["width"].default == 3
    assert options["width"].annotation is int


def test_options_of_a_head():
    assert set(head_options("mse")) == {"transform"}
    assert head_options("huber")["kappa"].default == 1.0
    assert set(head_options("quantile")) == {"num_quantiles", "kappa"}
    hl_gauss = head_options("hl_gauss")
    assert {"sigma_ratio", "bin_placement", "transform", "decode", "num_bins", "loss", "bootstrap"} <= set(hl_gauss)
    assert "encoding" not in hl_gauss  # it is what makes this head hl_gauss
    assert hl_gauss["sigma_ratio"].default == 0.75
    assert "sigma_ratio" not in head_options("two_hot")
    assert "sigma_ratio" in head_options("categorical", encoding="hl_gauss")
    assert "sigma_ratio" not in head_options("categorical", encoding="one_hot")


@pytest.mark.parametrize("name", HEADS)
def test_every_option_has_a_default_that_can_be_given(name):
    defaults = {k: p.default for k, p in head_options(name).items()}
    make_head(name, in_features=4, num_actions=2, support=(-1, 1), **defaults)


def test_what_makes_a_head_cannot_be_changed():
    for name, option in (("mse", "kappa"), ("c51", "bootstrap"), ("bce", "num_bins"), ("one_hot", "encoding")):
        with pytest.raises(TypeError, match=f"head '{name}' has no option '{option}'"):
            make_head(name, in_features=4, num_actions=2, support=(-1, 1), **{option: HEADS[name].fixed[option]})


def test_a_head_and_a_loss_from_outside(extension):
    head = make_head(f"{extension}:MyHead", in_features=4, num_actions=2, support=(-1, 1), kappa=0.5)
    assert isinstance(head, ScalarHead)
    assert type(head).__name__ == "MyHead"

    name = f"{extension}:DoubledLoss"
    assert "factor" in head_options("two_hot", loss=name)
    torch.manual_seed(0)
    tripled = make_head("two_hot", in_features=4, num_actions=2, support=(-1, 1), loss=name, factor=3.0)
    plain = make_head("two_hot", in_features=4, num_actions=2, support=(-1, 1))
    plain.load_state_dict(tripled.state_dict())
    x, action, target = torch.randn(3, 4), torch.tensor([0, 1, 1]), Atoms.at(torch.tensor([0.1, 0.2, -0.7]))
    losses = [head(x).select(action).loss(target) for head in (tripled, plain)]
    torch.testing.assert_close(losses[0], 3 * losses[1])


def test_recipes_are_what_their_names_say():
    """The combination that makes each bin head, read off the built head."""
    expected = {
        "one_hot": ("OneHot", "CrossEntropy", "mean", 51),
        "two_hot": ("TwoHot", "CrossEntropy", "mean", 51),
        "hl_gauss": ("HLGauss", "CrossEntropy", "mean", 51),
        "categorical": ("HLGauss", "CrossEntropy", "mean", 51),
        "c51": ("TwoHot", "CrossEntropy", "distribution", 51),
        "bce": ("TwoHot", "OrdinalBinaryCrossEntropy", "mean", 2),
        "mse_softmax": ("TwoHot", "CrossEntropy", "mean", 51),
    }
    heads = {n: make_head(n, in_features=4, num_actions=2, support=(-1, 1)) for n in HEADS}
    built = {
        n: (type(h.encoding).__name__, type(h.criterion).__name__, h.bootstrap, h.encoding.num_bins)
        for n, h in heads.items()
        if isinstance(h, CategoricalHead)
    }
    assert built == expected

"""Value heads: what an agent predicts about the return, and the loss that trains it. Needs torch only.

head = make_head("hl_gauss", in_features=128, num_actions=4, support=(-10, 10))
values = head(features)                       # features [B, 128]
action = values.mean().argmax(-1)             # Q-values [B, 4]
goal = Atoms.at(next_q).backup(reward, gamma * (1 - terminated))
loss = values.select(action).loss(goal)       # [B]
"""

import difflib
import functools
import inspect
from typing import Any, NamedTuple

from value_heads.base import ActionValues, Atoms, Draws, LinearOutput, OutputLayer, Support, ValueHead
from value_heads.categorical import PARTS, CategoricalHead, SoftmaxRegressionHead, find_part
from value_heads.encodings import ENCODINGS, Encoding
from value_heads.ensemble import EnsembleHead, EnsembleOutput
from value_heads.losses import LOSSES, ClassificationLoss
from value_heads.quantile import IQNHead, QuantileHead
from value_heads.registry import options_of, resolve
from value_heads.scalar import ScalarHead

__all__ = [
    "ENCODINGS",
    "HEADS",
    "LOSSES",
    "ActionValues",
    "Atoms",
    "ClassificationLoss",
    "Draws",
    "Encoding",
    "LinearOutput",
    "OutputLayer",
    "Support",
    "ValueHead",
    "head_options",
    "make_head",
]


class Recipe(NamedTuple):
    """A named head: a class, the options that make it what it is, and defaults that a user may change."""

    build: type[ValueHead]
    fixed: dict[str, Any] = {}
    defaults: dict[str, Any] = {}


HEADS: dict[str, Recipe] = {
    "mse": Recipe(ScalarHead, {"kappa": None}),
    "huber": Recipe(ScalarHead, {}, {"kappa": 1.0}),
    "mse_softmax": Recipe(SoftmaxRegressionHead, {"encoding": "two_hot", "loss": "cross_entropy", "bootstrap": "mean"}),
    "one_hot": Recipe(CategoricalHead, {"encoding": "one_hot"}),
    "two_hot": Recipe(CategoricalHead, {"encoding": "two_hot", "bootstrap": "mean"}),
    "hl_gauss": Recipe(CategoricalHead, {"encoding": "hl_gauss"}),
    "c51": Recipe(CategoricalHead, {"encoding": "two_hot", "bootstrap": "distribution"}),
    "bce": Recipe(CategoricalHead, {"encoding": "two_hot", "num_bins": 2, "loss": "ordinal_bce", "bootstrap": "mean"}),
    "categorical": Recipe(CategoricalHead),
    "quantile": Recipe(QuantileHead),
    "iqn": Recipe(IQNHead),
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, or that of a `ValueHead` class from outside (`package.module:Name`)."""
    found = resolve(HEADS, name, kind="head", group="classyq.heads")
    if isinstance(found, Recipe):
        return found
    if not (isinstance(found, type) and issubclass(found, ValueHead)):
        raise ValueError(f"head {name!r} is {found!r}, wanted a subclass of value_heads.ValueHead")
    return Recipe(found)


def head_options(name: str, **choices: Any) -> dict[str, inspect.Parameter]:
    """Every option of a head, with its annotation and default; `choices` may name an encoding and a loss.

    The options of a bin head's encoding and loss are options of the head, so they depend on which are chosen.
    """
    recipe = find_recipe(name)
    options = {k: p.replace(default=recipe.defaults.get(k, p.default)) for k, p in options_of(recipe.build).items()}
    for part in PARTS if isinstance(recipe.build, type) and issubclass(recipe.build, CategoricalHead) else ():
        chosen = {**recipe.fixed, **recipe.defaults, **choices}.get(part, options[part].default)
        options |= options_of(find_part(part, chosen))
    return {k: p for k, p in options.items() if k not in recipe.fixed and k != "output_layer"}


def make_head(
    name: str,
    *,
    in_features: int,
    num_actions: int,
    support: tuple[float, float],
    output_layer: OutputLayer = LinearOutput,
    members: int = 1,
    **options: Any,
) -> ValueHead:
    """Build the head called `name`.

    Args:
        in_features: F, the width of the features it will be given.
        num_actions: A.
        support: (v_min, v_max), the range of returns that bins cover; regression and quantiles do not need it.
        output_layer: what maps features to actions x outputs.
        members: more than one make an ensemble, each with an output layer of its own.
        options: see `head_options(name)`.

    Raises:
        UnknownNameError: for an unknown head, encoding or loss.
        TypeError: for an option that this head does not have, with the nearest that it has.
        ValueError: for an option out of range.
    """
    recipe = find_recipe(name)
    known = head_options(name, **{k: options[k] for k in ("encoding", "loss") if k in options})
    for option in options.keys() - known.keys():
        near = "".join(f" Did you mean {n!r}?" for n in difflib.get_close_matches(option, known, n=1))
        raise TypeError(f"head {name!r} has no option {option!r}.{near} It has: {', '.join(known) or 'none'}")
    if members < 1:
        raise ValueError(f"members must be at least 1, got {members}")
    chosen = {**recipe.defaults, **options, **recipe.fixed}
    if members > 1:
        output_layer = functools.partial(EnsembleOutput, output_layer, members)
    head = recipe.build(in_features, num_actions, Support(*support), output_layer=output_layer, **chosen)
    return head if members == 1 else EnsembleHead(head, members)

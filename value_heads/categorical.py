"""Classification heads: a distribution over value bins per action. A bin head is encoding x loss x bootstrap.

Dimensions: B batch, A actions, K atoms, F features, m bins.
"""

import difflib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from value_heads.base import ActionValues, Atoms, Draws, LinearOutput, OutputLayer, Support, ValueHead, in_part, of_part
from value_heads.encodings import ENCODINGS, Encoding
from value_heads.losses import LOSSES, ClassificationLoss
from value_heads.registry import options_of, resolve

Bootstrap = Literal["mean", "distribution"]


@dataclass(frozen=True)
class CategoricalValues(ActionValues):
    """Logits over bins: outputs [B, A, num_logits], or [B, num_logits] once selected."""

    encoding: Encoding
    criterion: ClassificationLoss
    bootstrap: Bootstrap
    draws: Draws | None = None

    def probs(self) -> Tensor:
        """Mean-calibrated mass of each bin, [..., m]; ordinal losses may make it negative in places."""
        return self.criterion.probs(self.outputs)

    def mean(self) -> Tensor:
        return self.encoding.mean(self.probs())

    def atoms(self) -> Atoms:
        if self.bootstrap == "mean":
            return super().atoms()
        probs = self.probs()
        return Atoms(self.encoding.values().expand_as(probs), probs)

    def distribution(self) -> Atoms:
        probs = unsigned(self.probs())
        return Atoms(self.encoding.values().expand_as(probs), probs)

    def loss(self, target: Atoms) -> Tensor:
        self._check_target(target)
        return self.criterion(self.outputs, self.encoding(target), draws=of_part("loss", self.draws))

    def target_distribution(self, target: Atoms) -> Atoms:
        probs = unsigned(self.encoding(target))
        return Atoms(self.encoding.values().expand_as(probs), probs)

    def diagnostics(self, target: Atoms) -> dict[str, Tensor]:
        """Batch means, in nats where they are entropies.

        cross_entropy: -sum p log p_hat. kl: the same less the entropy of the target, which is what a perfect
        prediction cannot remove. entropy: of the prediction. frac_target_clipped: target mass outside of
        the support (frac_target_low and frac_target_high: below and above). outer_bin_mass: predicted mass in
        the first and the last bin.
        """
        target = Atoms(target.values, unsigned(target.probs))
        goal, predicted = self.encoding(target), self.distribution().probs
        tiny = torch.finfo(predicted.dtype).tiny
        cross_entropy = -(goal * predicted.clamp(min=tiny).log()).sum(-1)
        v_min, v_max = self.encoding.support
        low = (target.probs * (target.values < v_min)).sum(-1).mean()
        high = (target.probs * (target.values > v_max)).sum(-1).mean()
        return {
            "cross_entropy": cross_entropy.mean(),
            "kl": (cross_entropy - entropy(goal)).mean(),
            "entropy": entropy(predicted).mean(),
            "frac_target_clipped": low + high,
            "frac_target_low": low,
            "frac_target_high": high,
            "outer_bin_mass": (predicted[..., 0] + predicted[..., -1]).mean(),
        }


@dataclass(frozen=True)
class SoftmaxRegressionValues(CategoricalValues):
    """The same parametrisation trained by (sum_i p_hat_i z_i - y)^2: what is left of a bin head without its loss.

    Source: Farebrother et al. 2024, Figs. 11 and 12 ("MSE+Softmax").
    """

    def loss(self, target: Atoms) -> Tensor:
        self._check_target(target)
        return (self.mean() - target.mean()) ** 2


def unsigned(probs: Tensor) -> Tensor:
    """Masses, of which ordinal losses may make some negative, clamped at 0 and renormalised: for looking at only."""
    probs = probs.clamp(min=0)
    return probs / probs.sum(-1, keepdim=True)


def entropy(probs: Tensor) -> Tensor:
    """-sum p log p over the last dimension, in nats, with 0 log 0 = 0."""
    return torch.special.entr(probs).sum(-1)


def spread_around(mean: float, grid: Tensor) -> Tensor:
    """Probabilities over bins with this mean that leave every bin within reach: p_i ~ exp(t i). [m]

    Where bins are even it is the distribution of largest entropy with that mean: uniform where the grid is centred on
    it, tilted towards it otherwise. t is found by bisection, up to a tilt at which the rarest bin has e^-16 of the
    mass of the likeliest, or a bin e^-4 of that of its neighbour; a mean at the very end of the grid is met as nearly
    as that allows (0 on [0, 100]: at 6.2 with 51 bins, at 1.8 with 2).
    """
    grid = grid.double()
    index = torch.linspace(-8, 8, len(grid), dtype=torch.float64)
    steepest = min(1.0, 4 / float(index[1] - index[0]))
    low, high = -steepest, steepest
    for _ in range(60):
        tilt = (low + high) / 2
        probs = torch.softmax(tilt * index, 0)
        low, high = (tilt, high) if float(probs @ grid) < mean else (low, tilt)
    return torch.softmax((low + high) / 2 * index, 0)


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "encoding": (ENCODINGS, "classyq.encodings"),
    "loss": (LOSSES, "classyq.losses"),
}


def find_part(kind: str, name: str) -> Any:
    """The class of the encoding or the loss called `name`."""
    registry, group = PARTS[kind]
    return resolve(registry, name, kind=kind, group=group)


class CategoricalHead(ValueHead):
    """A distribution over value bins: any encoding with any loss.

    Args:
        support: (v_min, v_max) in units of return.
        encoding: name in ENCODINGS; its options (sigma_ratio, transform, ...) are options of the head.
        num_bins: m.
        loss: name in LOSSES; its options are options of the head.
        bootstrap: what targets are made of, the `mean` of the next prediction or its whole `distribution`.
        allow_biased: take a loss that learns something else than the mean, and let an encoding bootstrap its
            distribution although each backup then adds to its spread (HL-Gauss: sigma^2, which the ends of the
            support turn into a bias of the mean).

    It starts at Q = 0 rather than at the middle of its support, see `spread_around`.
    """

    values_class = CategoricalValues

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        support: Support,
        *,
        output_layer: OutputLayer = LinearOutput,
        encoding: str = "hl_gauss",
        num_bins: int = 51,
        loss: str = "cross_entropy",
        bootstrap: Bootstrap = "mean",
        allow_biased: bool = False,
        **options: Any,
    ):
        super().__init__()
        encoding_class, loss_class = find_part("encoding", encoding), find_part("loss", loss)
        if bootstrap not in ("mean", "distribution"):
            raise ValueError(f"bootstrap must be 'mean' or 'distribution', got {bootstrap!r}")
        of_encoding, of_loss = options_of(encoding_class), options_of(loss_class)
        for name in options.keys() - of_encoding.keys() - of_loss.keys():
            known = [*of_encoding, *of_loss]
            near = "".join(f", did you mean {n!r}?" for n in difflib.get_close_matches(name, known, n=1))
            raise TypeError(f"{encoding} with {loss} has no option {name!r}{near or f': it has {known}'}")
        self.encoding: Encoding = encoding_class(
            Support(*support), num_bins, **{k: v for k, v in options.items() if k in of_encoding}
        )
        if bootstrap == "distribution" and not (self.encoding.mean_preserving or allow_biased):
            raise ValueError(
                f"bootstrap = 'distribution' with encoding {encoding!r} (decode {self.encoding.decode!r}) is biased: a "
                "backup would move the mean; set allow_biased = true to have it all the same, or use 'two_hot' with "
                "decode 'mean_of_inverse'"
            )
        self.criterion: ClassificationLoss = loss_class(**{k: v for k, v in options.items() if k in of_loss})
        if self.criterion.learns != "mean" and not allow_biased:
            raise ValueError(
                f"loss {loss!r} learns the {self.criterion.learns} of a random return, and not its mean, of which "
                "targets are made: what it is off grows by 1 / (1 - gamma). Set allow_biased = true to have it anyway"
            )
        self.bootstrap: Bootstrap = bootstrap
        self.num_logits = self.criterion.num_logits(num_bins)
        self.output = output_layer(in_features, num_actions, self.num_logits)
        if self.criterion.last_layer is not None:
            self.output.replace_last(self.criterion.last_layer)
        zero = float(self.encoding.to_grid(torch.zeros(())))
        self.output.init_bias(self.criterion.logits(spread_around(zero, self.encoding.grid)).float())

    def draw(self, batch_size: int, generator: torch.Generator, *, bootstrap: bool) -> Draws:
        """Those of the output layer, and of the loss where it is a prediction that is to be trained."""
        if bootstrap:
            return self.noise(generator)
        of_loss = self.criterion.draw(batch_size, self.num_logits, generator)
        return {**self.noise(generator), **in_part("loss", of_loss)}

    def forward(self, features: Tensor, draws: Draws | None = None) -> CategoricalValues:
        logits = self.output(features, draws).float()
        return self.values_class(logits, self.encoding, self.criterion, self.bootstrap, draws)


class SoftmaxRegressionHead(CategoricalHead):
    """Softmax over bins, trained by the squared error of its mean."""

    values_class = SoftmaxRegressionValues

"""Quantile heads: the return distribution by its quantile function, at fixed (QR) or sampled (IQN) fractions.

Dimensions: B batch, A actions, K atoms, F features, N quantiles (theta), y target values.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from value_heads.base import ActionValues, Atoms, Draws, LinearOutput, OutputLayer, Support, ValueHead, check_policy


@dataclass(frozen=True)
class QuantileValues(ActionValues):
    """Quantiles at fractions `taus` in (0, 1): outputs [B, A, N] ([B, N] once selected); taus [N] or [B, N]."""

    taus: Tensor
    kappa: float

    def mean(self) -> Tensor:
        return self.outputs.mean(-1)

    def atoms(self) -> Atoms:
        """The quantiles with mass 1/N each."""
        return Atoms(self.outputs, torch.full_like(self.outputs, 1 / self.outputs.shape[-1]))

    distribution = atoms

    def average(self, policy: Tensor, offset: Tensor | None = None) -> Atoms:
        """Quantile functions averaged over actions on shared fractions (as M-IQN does): atoms [B, N]."""
        check_policy(self.outputs.shape[:-1], policy, offset)
        values = self.outputs if offset is None else self.outputs + offset.unsqueeze(-1)
        mean = (policy.unsqueeze(-1) * values).sum(-2)
        return Atoms(mean, torch.full_like(mean, 1 / mean.shape[-1]))

    def loss(self, target: Atoms) -> Tensor:
        """sum_i sum_j p_j |tau_i - 1{u_ij < 0}| L(u_ij) with u_ij = y_j - theta_i; [B].

        L is Huber's loss over kappa (u^2 / (2 kappa) where |u| <= kappa, else |u| - kappa/2), |u| for kappa = 0.
        Sum over predicted quantiles, mean over target atoms. `huber_sums` has the inner sum without the N x K pairs.
        Source: Dabney et al. 2018a, eq. 10; Dabney et al. 2018b, eq. 3.
        """
        self._check_target(target)
        if self.taus.shape not in (self.outputs.shape, self.outputs.shape[-1:]):
            raise ValueError(f"taus {tuple(self.taus.shape)} do not match quantiles {tuple(self.outputs.shape)}")
        above, below = huber_sums(self.outputs.double(), target, self.kappa)
        return (self.taus * above + (1 - self.taus) * below).sum(-1).float()

    def error(self, target: Atoms) -> Tensor:
        """sum_i sum_j p_j |y_j - theta_i|; [B]. It is 0 only where nothing is random.

        Source: Clark et al. 2025, "Beyond The Rainbow": the priority of BTR (Dopamine takes the loss).
        """
        self._check_target(target)
        above, below = huber_sums(self.outputs.double(), target, kappa=0)
        return (above + below).sum(-1).float()

    def diagnostics(self, target: Atoms) -> dict[str, Tensor]:
        """spread: mean distance between the 5 % and 95 % quantiles predicted."""
        quantiles = self.outputs.quantile(torch.tensor([0.05, 0.95], device=self.outputs.device), dim=-1)
        return {"spread": (quantiles[1] - quantiles[0]).mean()}


def huber_sums(theta: Tensor, target: Atoms, kappa: float) -> tuple[Tensor, Tensor]:
    """sum_j p_j L(y_j - theta_i) over the atoms above theta_i and over those below it: two float64 [B, N].

    Between theta - kappa, theta, theta + kappa and infinity L is a polynomial in y, so each sum follows from those of
    p, p y and p y^2 up to those places in the sorted atoms: O((N + K) log K) instead of O(N K), ten times as fast for
    200 quantiles on a CPU. float64, because differences of such sums cancel.

    Args:
        theta: [B, N], float64.
        target: atoms [B, K] in any order.
        kappa: as in `QuantileValues.loss`.
    """
    y, order = target.values.double().sort(-1)
    p = target.probs.double().gather(-1, order)
    sums = [nn.functional.pad((p * y**power).cumsum(-1), (1, 0)) for power in range(3)]  # [B, K + 1] each

    def up_to(place: Tensor) -> list[Tensor]:
        index = torch.searchsorted(y, place.detach())
        return [total.gather(-1, index) for total in sums]

    def between(low: list[Tensor], high: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of p, p (y - theta) and p (y - theta)^2."""
        mass, first, second = (b - a for a, b in zip(low, high, strict=True))
        return mass, first - theta * mass, second - 2 * theta * first + theta**2 * mass

    nothing, everything = [total[..., :1] for total in sums], [total[..., -1:] for total in sums]
    here = up_to(theta)
    if kappa == 0:
        return between(here, everything)[1], -between(nothing, here)[1]
    low, high = up_to(theta - kappa), up_to(theta + kappa)
    mass_above, first_above, _ = between(high, everything)
    mass_below, first_below, _ = between(nothing, low)
    above = between(here, high)[2] / (2 * kappa) + first_above - kappa / 2 * mass_above
    below = between(low, here)[2] / (2 * kappa) - first_below - kappa / 2 * mass_below
    return above, below


def midpoints(num_quantiles: int) -> Tensor:
    """tau_i = (i + 1/2) / N: the fractions whose quantiles are nearest to the distribution in W1. [N]"""
    return (torch.arange(num_quantiles) + 0.5) / num_quantiles


class QuantileHead(ValueHead):
    """QR-DQN: N quantiles at the midpoints of N equal masses (Dabney et al. 2018a).

    Args:
        support: not used; quantiles have no range.
        num_quantiles: N.
        kappa: where the loss turns from quadratic to linear, in units of return; 0 is the plain quantile loss.
    """

    taus: Tensor

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        support: Support,
        *,
        output_layer: OutputLayer = LinearOutput,
        num_quantiles: int = 200,
        kappa: float = 1.0,
    ):
        super().__init__()
        check_positive(num_quantiles=num_quantiles)
        check_kappa(kappa)
        self.kappa = kappa
        self.register_buffer("taus", midpoints(num_quantiles), persistent=False)
        self.output = output_layer(in_features, num_actions, num_quantiles)

    def forward(self, features: Tensor, draws: Draws | None = None) -> QuantileValues:
        return QuantileValues(self.output(features, draws).float(), self.taus, self.kappa)


class IQNHead(ValueHead):
    """Implicit quantiles: Z_tau = f(features * relu(W cos(pi i tau) + b)), i = 0 .. num_cosines - 1.

    An update draws fractions from U(0, 1). Without them (acting, and choosing the action of a double-Q target)
    the midpoints of `num_acting_taus` equal masses are used, so that acting is deterministic; the paper
    samples there too. Source: Dabney et al. 2018b, eq. 4 and s. 3.1; N = N' = 64, K = 32 and 64 cosines as in
    Dopamine.

    Args:
        support: not used; quantiles have no range.
        num_taus, num_target_taus, num_acting_taus: fractions per state for the prediction, the target, and acting.
        kappa: as in QuantileHead.
    """

    acting_taus: Tensor
    frequencies: Tensor

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        support: Support,
        *,
        output_layer: OutputLayer = LinearOutput,
        num_taus: int = 64,
        num_target_taus: int = 64,
        num_acting_taus: int = 32,
        num_cosines: int = 64,
        kappa: float = 1.0,
    ):
        super().__init__()
        check_positive(num_taus=num_taus, num_target_taus=num_target_taus, num_acting_taus=num_acting_taus)
        check_positive(num_cosines=num_cosines)
        check_kappa(kappa)
        self.num_taus, self.num_target_taus, self.kappa = num_taus, num_target_taus, kappa
        self.register_buffer("acting_taus", midpoints(num_acting_taus), persistent=False)
        self.register_buffer("frequencies", math.pi * torch.arange(num_cosines), persistent=False)
        self.embedding = nn.Linear(num_cosines, in_features)
        self.output = output_layer(in_features, num_actions, 1)

    def draw(self, batch_size: int, generator: torch.Generator, *, bootstrap: bool) -> Draws:
        num_taus = self.num_target_taus if bootstrap else self.num_taus
        taus = torch.rand(batch_size, num_taus, generator=generator, device=generator.device)
        return {"taus": taus, **self.noise(generator)}

    def forward(self, features: Tensor, draws: Draws | None = None) -> QuantileValues:
        taus = (draws or {}).get("taus", self.acting_taus.expand(len(features), -1))
        cosines = torch.cos(taus.unsqueeze(-1) * self.frequencies)  # [B, N, num_cosines]
        embedded = torch.relu(self.embedding(cosines)) * features.unsqueeze(-2)  # [B, N, F]
        return QuantileValues(self.output(embedded, draws).squeeze(-1).transpose(-1, -2).float(), taus, self.kappa)


def check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_kappa(kappa: float) -> None:
    if kappa < 0:
        raise ValueError(f"kappa must not be negative, got {kappa}")

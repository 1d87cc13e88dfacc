"""Regression heads: one number per action, trained on the mean of the target.

Dimensions: B batch, A actions, K atoms, F features.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from value_heads.base import ActionValues, Atoms, Draws, LinearOutput, OutputLayer, Support, ValueHead
from value_heads.registry import resolve
from value_heads.transforms import TRANSFORMS, Transform


@dataclass(frozen=True)
class ScalarValues(ActionValues):
    """One number per action: outputs [B, A, 1], or [B, 1] once selected."""

    transform: Transform
    kappa: float | None

    def mean(self) -> Tensor:
        return self.transform.inverse(self.outputs.squeeze(-1))

    def distribution(self) -> Atoms:
        return Atoms.at(self.mean())

    def loss(self, target: Atoms) -> Tensor:
        """(q - y)^2, or with kappa the Huber loss: u^2/2 where |u| <= kappa, else kappa (|u| - kappa/2); [B].

        y is the transformed mean of the target. The square has no factor 1/2 (as in Dopamine's `mse_loss`,
        the baseline of Farebrother et al. 2024), Huber has it (Mnih et al. 2015).
        """
        self._check_target(target)
        prediction, goal = self.outputs.squeeze(-1), self.transform.forward(target.mean())
        if self.kappa is None:
            return functional.mse_loss(prediction, goal, reduction="none")
        return functional.huber_loss(prediction, goal, reduction="none", delta=self.kappa)


class ScalarHead(ValueHead):
    """Regression: MSE, or Huber where `kappa` is given.

    Args:
        support: not used; regression has no range. It is accepted so that every head is built alike.
        transform: name of the space in which the loss is taken, see `TRANSFORMS`.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        support: Support,
        *,
        output_layer: OutputLayer = LinearOutput,
        kappa: float | None = None,
        transform: str = "identity",
    ):
        super().__init__()
        if kappa is not None and kappa <= 0:
            raise ValueError(f"kappa must be positive, got {kappa}")
        self.kappa = kappa
        self.transform: Transform = resolve(TRANSFORMS, transform, kind="transform", group="classyq.transforms")
        self.output = output_layer(in_features, num_actions, 1)

    def forward(self, features: Tensor, draws: Draws | None = None) -> ScalarValues:
        return ScalarValues(self.output(features, draws).float(), self.transform, self.kappa)

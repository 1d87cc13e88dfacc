"""An ensemble of losses: another one at every update, all of them with the same minimum.

Source: Dai 2024, "EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in Classification".
Dimensions: B batch, m bins.
"""

from typing import Literal

import torch
from torch import Tensor

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss, with_gradient
from value_heads.losses.ordinal import OrdinalBinaryCrossEntropy, above
from value_heads.losses.proper import CrossEntropy, brier, cramer

Form = Literal["ordinal", "categorical", "literal"]


class Ensemble(ClassificationLoss):
    """A random loss for each update, of a kind that has the mean at its minimum whichever it is.

    The source draws the derivative of a calibrated loss for hard labels of two classes; calibrated there means that the
    *sign* is right, and thresholds of the right sign count up to the median. For a mean the derivative has to be
    (sigmoid(l) - t) w(sigmoid(l)) with w > 0 that knows nothing of t, the derivative of a proper loss. Forms:

    * `ordinal`: `ordinal_bce` with w(u) = (4 u (1 - u))^rho e^(delta (u - 1/2)), rho ~ U(0, 1) and delta ~ N(0, 2^2).
    * `categorical`: e_1 cross_entropy + e_2 sqrt(m) brier + e_3 cramer, e ~ Dirichlet(1, 1, 1).
    * `literal`: the source's, see `literal_gradient`. It learns the median, and wants leave.

    The first two are ours. The number that the first and the last form show is that of `ordinal_bce`; their gradient is
    not that of the number. Without draws they are `ordinal_bce`, and the categorical form is the sum with weights 1/3.

    Args:
        form: see above.
    """

    paper = "2024, 2409.00908"

    def __init__(self, *, form: Form = "ordinal"):
        super().__init__()
        if form not in ("ordinal", "categorical", "literal"):
            raise ValueError(f"form must be 'ordinal', 'categorical' or 'literal', got {form!r}")
        self.form: Form = form
        self.base: ClassificationLoss = CrossEntropy() if form == "categorical" else OrdinalBinaryCrossEntropy()
        if form == "literal":
            self.learns, self.couples_batch = "median", True

    def num_logits(self, num_bins: int) -> int:
        return self.base.num_logits(num_bins)

    def probs(self, logits: Tensor) -> Tensor:
        return self.base.probs(logits)

    def logits(self, probs: Tensor) -> Tensor:
        return self.base.logits(probs)

    def draw(self, batch_size: int, num_logits: int, generator: torch.Generator) -> Draws:
        """One loss for the whole batch; the literal form draws a derivative for each row and threshold."""
        device = generator.device
        if self.form == "literal":
            return {"normal": torch.randn(batch_size, num_logits, generator=generator, device=device)}
        if self.form == "categorical":
            exponential = -torch.rand(3, generator=generator, device=device).clamp(min=1e-30).log()
            return {"shares": (exponential / exponential.sum()).repeat(batch_size, 1)}
        rho = torch.rand(1, generator=generator, device=device).repeat(batch_size)
        return {"rho": rho, "delta": 2 * torch.randn(1, generator=generator, device=device).repeat(batch_size)}

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        if self.form == "categorical":
            shares = draws["shares"] if draws else logits.new_full((3,), 1 / 3)
            predicted = logits.softmax(-1)
            scores = (self.base(logits, target), target.shape[-1] ** 0.5 * brier(predicted, target))
            return (shares * torch.stack([*scores, cramer(predicted, target)], -1)).sum(-1)
        value = self.base(logits, target)
        if not draws:
            return value
        answers = above(target)
        if self.form == "literal":
            return with_gradient(value, literal_gradient(logits.detach(), answers, draws["normal"]), logits)
        u = logits.detach().sigmoid()
        return with_gradient(value, (u - answers) * random_weight(u, draws["rho"], draws["delta"]), logits)


def random_weight(u: Tensor, rho: Tensor, delta: Tensor) -> Tensor:
    """w(u) = (4 u (1 - u))^rho e^(delta (u - 1/2)): u [..., D], rho and delta [...]. 1 where both are 0."""
    return (4 * u * (1 - u)) ** rho.unsqueeze(-1) * (delta.unsqueeze(-1) * (u - 0.5)).exp()


def literal_gradient(logits: Tensor, answers: Tensor, normal: Tensor) -> Tensor:
    """dL/dl of the source's random convex loss of margins s = y l, y = 1 where an answer is above 1/2, else -1.

    g = -min(e^z, 1), z normal; of each classifier the g of a batch are sorted as its margins are, so that the
    derivative never falls: a convex loss. It is divided by s where s > 1 (a slow tail), and 1e-6 is taken off, so that
    it is never 0.

    Args:
        logits, answers, normal: [B, D].
    """
    sign = torch.where(answers > 0.5, 1.0, -1.0)
    margins = sign * logits
    derivatives = (-normal.exp().clamp(max=1.0)).sort(0).values
    ranks = margins.argsort(0).argsort(0)
    return sign * (derivatives.gather(0, ranks) / margins.clamp(min=1.0) - 1e-6)

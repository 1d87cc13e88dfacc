"""Output layers by name: what maps features to actions x outputs. Any head takes any of them.

Dimensions: F features, A actions, D raw outputs per action.
"""

import torch
from torch import Tensor, nn

from value_heads import Draws, LinearOutput
from value_heads.base import Output, hidden_norm, in_part, of_part


class NoisyLinear(nn.Module):
    """y = (W + S * e_out e_in^T) x + b + s * e_out with e = sign(z) sqrt|z| of normal z: factorised noise.

    [..., in] -> [..., out]. W and b start uniform in +-1/sqrt(in), S and s at sigma / sqrt(in). Without noise it is
    the linear map with weight W and bias b, which are the means: E[e] = 0. Source: Fortunato et al. 2018, "Noisy
    Networks for Exploration", eqs. 9 to 11 and s. 3.2.

    The noise has rank one, so (S * e_out e_in^T) x = e_out * (S (e_in * x)) needs no matrix of its own. That is two
    products instead of one product and one pass over the weights: faster below some 100 rows x on a CPU
    (measured on 2304 x 512, forward: 5.6 times with 1 row, 1.5 times with 32; half as fast with 2048).
    """

    FEW_ROWS = 64

    def __init__(self, in_features: int, out_features: int, sigma: float):
        super().__init__()
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sizes = (in_features, out_features)
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, sigma * bound))

    def draw(self, generator: torch.Generator) -> Tensor:
        """e_in and e_out in one, [in + out]."""
        z = torch.randn(sum(self.sizes), generator=generator, device=generator.device)
        return z.sign() * z.abs().sqrt()

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return nn.functional.linear(x, self.weight, self.bias)
        e_in, e_out = noise.split(self.sizes)
        bias = self.bias + self.bias_sigma * e_out
        if x.shape[:-1].numel() <= self.FEW_ROWS:
            noisy_part = nn.functional.linear(x * e_in, self.weight_sigma) * e_out
            return nn.functional.linear(x, self.weight, bias) + noisy_part
        return nn.functional.linear(x, self.weight + self.weight_sigma * torch.outer(e_out, e_in), bias)


class NoisyOutput(Output):
    """`linear` with noisy layers, which explore in place of (or beside) epsilon: [..., F] -> [..., A, D].

    Args:
        hidden: width of the hidden layer.
        layer_norm: normalise the hidden layer before its ReLU.
        sigma: deviation of the noise at the beginning, sigma_0 of the paper.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        num_outputs: int,
        *,
        hidden: int | None = None,
        layer_norm: bool = False,
        sigma: float = 0.5,
    ):
        super().__init__()
        self.shape = (num_actions, num_outputs)
        self.hidden = NoisyLinear(in_features, hidden, sigma) if hidden else None
        self.norm = hidden_norm(hidden) if layer_norm else None
        self.last = NoisyLinear(hidden or in_features, num_actions * num_outputs, sigma)

    def draw(self, generator: torch.Generator) -> Draws:
        layers = {"hidden_noise": self.hidden, "last_noise": self.last}
        return {name: layer.draw(generator) for name, layer in layers.items() if layer is not None}

    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        noise = draws or {}
        if self.hidden is not None:
            features = self.hidden(features, noise.get("hidden_noise"))
            features = torch.relu(features if self.norm is None else self.norm(features))
        return self.last(features, noise.get("last_noise")).unflatten(-1, self.shape)

    def project(self, features: Tensor) -> Tensor:
        return features if self.hidden is None else self.hidden(features)

    @torch.no_grad()
    def init_bias(self, outputs: Tensor) -> None:
        self.last.bias.copy_(outputs.repeat(self.shape[0]))


class Dueling(Output):
    """Q = V + A - mean_a A on the raw outputs, of each atom alone: [..., F] -> [..., A, D].

    V is an output layer for one action, A one for all. For bins this is before the softmax. Every action starts at
    the bias of V, and the bias of A at 0. Source: Wang et al. 2016, "Dueling Network Architectures", eq. 9; for
    distributions Hessel et al. 2018, "Rainbow".
    """

    def __init__(self, value: Output, advantage: Output):
        super().__init__()
        self.value, self.advantage = value, advantage

    def draw(self, generator: torch.Generator) -> Draws:
        value, advantage = self.value.draw(generator), self.advantage.draw(generator)
        return in_part("value", value) | in_part("advantage", advantage)

    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        value = self.value(features, of_part("value", draws))
        advantage = self.advantage(features, of_part("advantage", draws))
        return value + advantage - advantage.mean(-2, keepdim=True)

    def project(self, features: Tensor) -> Tensor:
        """The first layers of both streams, one after the other."""
        return torch.cat([self.value.project(features), self.advantage.project(features)], -1)

    def init_bias(self, outputs: Tensor) -> None:
        self.value.init_bias(outputs)
        self.advantage.init_bias(torch.zeros_like(outputs))


class DuelingOutput(Dueling):
    """Dueling with two `linear` streams, each with a hidden layer of its own, or on one that they share.

    Args:
        hidden: width of the hidden layers.
        layer_norm: normalise the hidden layers before their ReLU.
        shared_hidden: both streams are linear maps of one hidden layer, as in BBF and its relatives.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        num_outputs: int,
        *,
        hidden: int = 512,
        layer_norm: bool = False,
        shared_hidden: bool = False,
    ):
        if shared_hidden and not hidden:
            raise ValueError(f"shared_hidden is for a hidden layer, and hidden is {hidden}: give its width")
        width, own, norm = (hidden, None, False) if shared_hidden else (in_features, hidden, layer_norm)
        value, advantage = (
            LinearOutput(width, actions, num_outputs, hidden=own, layer_norm=norm) for actions in (1, num_actions)
        )
        super().__init__(value, advantage)
        self.shared = nn.Linear(in_features, hidden) if shared_hidden else None
        self.norm = hidden_norm(hidden) if shared_hidden and layer_norm else None

    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        if self.shared is not None:
            features = self.shared(features)
            features = torch.relu(features if self.norm is None else self.norm(features))
        return super().forward(features, draws)

    def project(self, features: Tensor) -> Tensor:
        return super().project(features) if self.shared is None else self.shared(features)


class NoisyDuelingOutput(Dueling):
    """Dueling with two `noisy` streams, as in Rainbow and BTR.

    Args:
        hidden: width of the hidden layers.
        layer_norm: normalise the hidden layers before their ReLU.
        sigma: deviation of the noise at the beginning.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        num_outputs: int,
        *,
        hidden: int = 512,
        layer_norm: bool = False,
        sigma: float = 0.5,
    ):
        value, advantage = (
            NoisyOutput(in_features, actions, num_outputs, hidden=hidden, layer_norm=layer_norm, sigma=sigma)
            for actions in (1, num_actions)
        )
        super().__init__(value, advantage)


OUTPUT_LAYERS: dict[str, type[Output]] = {
    "linear": LinearOutput,
    "dueling": DuelingOutput,
    "noisy": NoisyOutput,
    "noisy_dueling": NoisyDuelingOutput,
}

"""Soft mixtures of experts (Puigcerver et al. 2024) for value functions (Obando-Ceron et al. 2024).

Dimensions: B batch, m tokens, d features of a token, n experts, p slots of each expert, h hidden units.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from agents.networks.base import Torso
from agents.networks.impala import ImpalaCNN
from agents.networks.nature import NatureCNN


class SoftMoE(nn.Module):
    """Tokens X [B, m, d] -> [B, m, d]: every slot is a mean of tokens, every new token a mean of the experts' slots.

    logits = X Phi [m, n p]; D = softmax of logits over the m tokens, C = softmax over the n p slots;
    slots = D^T X; Y_i = relu(slots_i W1_i + b1_i) W2_i + b2_i by expert i; result = C Y. p = ceil(m / n).
    Source: Puigcerver et al. 2024, "From Sparse to Soft Mixtures of Experts", eqs. 1 to 3; experts, initialisation
    and p as in Dopamine's `labs/moes`, which does not normalise X and Phi either.
    """

    def __init__(self, num_tokens: int, token_size: int, num_experts: int, hidden: int):
        super().__init__()
        self.num_slots = math.ceil(num_tokens / num_experts)
        fan_in = token_size * num_experts  # what flax's lecun_normal takes for a kernel [d, n, p]
        self.phi = nn.Parameter(torch.randn(token_size, num_experts * self.num_slots) * fan_in**-0.5)
        self.weight1 = nn.Parameter(torch.empty(num_experts, token_size, hidden))
        self.weight2 = nn.Parameter(torch.empty(num_experts, hidden, token_size))
        for weight in (*self.weight1, *self.weight2):
            nn.init.xavier_uniform_(weight)
        self.bias1 = nn.Parameter(torch.zeros(num_experts, 1, hidden))
        self.bias2 = nn.Parameter(torch.zeros(num_experts, 1, token_size))

    def forward(self, tokens: Tensor) -> Tensor:
        logits = tokens @ self.phi  # [B, m, n p]
        slots = logits.softmax(1).transpose(1, 2) @ tokens  # [B, n p, d]
        slots = slots.unflatten(1, (-1, self.num_slots))  # [B, n, p, d]
        # einsum and not @, which would copy the weights for every row of the batch.
        hidden = torch.relu(torch.einsum("bnpd,ndh->bnph", slots, self.weight1) + self.bias1)
        outputs = torch.einsum("bnph,nhd->bnpd", hidden, self.weight2) + self.bias2
        return logits.softmax(2) @ outputs.flatten(1, 2)


class SoftMoECNN(Torso):
    """Experts on the pixels of the maps of another encoder, each of which is a token.

    The layer takes the place of the penultimate dense layer of DQN, and returns as many tokens as it is given, which
    are flattened (121 x 32 on IMPALA, 121 x 64 on Nature). So it is the end of an encoder: this is a torso, and the
    network of the paper is this torso with the output layer `linear` *without* a hidden layer.

    Args:
        encoder: `impala` of width 1, or `nature` with padding `same`, as in Dopamine.
        num_experts: n.
        hidden: h, of each expert.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        encoder: Literal["impala", "nature"] = "impala",
        num_experts: int = 4,
        hidden: int = 512,
    ):
        super().__init__()
        if encoder not in ("impala", "nature"):
            raise ValueError(f"encoder is {encoder!r}, wanted 'impala' or 'nature'")
        if num_experts < 1 or hidden < 1:
            raise ValueError(f"num_experts and hidden must be at least 1, got {num_experts} and {hidden}")
        self.encoder = ImpalaCNN(obs_shape) if encoder == "impala" else NatureCNN(obs_shape, padding="same")
        token_size, height, width = self.encoder.map_shape
        self.experts = SoftMoE(height * width, token_size, num_experts, hidden)
        self.out_features = self.encoder.out_features

    def forward(self, obs: Tensor) -> Tensor:
        maps = self.encoder.encode(obs.contiguous(memory_format=torch.channels_last))
        return self.experts(maps.flatten(2).transpose(1, 2)).flatten(1)

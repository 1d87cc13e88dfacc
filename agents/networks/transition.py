"""A transition model in the space of features: what an action makes of them.

B batch, F features, A actions; maps are [C, H, W] with C * H * W = F.
"""

import torch
from torch import Tensor, nn

from agents.networks.base import ImageTorso, Torso, renormalized


class TransitionModel(nn.Module):
    """Features [B, F] in [0, 1] and actions [B] -> the next features [B, F], in [0, 1] again.

    For a torso with maps two 3x3 convolutions with ReLU, of as many channels as the maps, where the action comes in as
    A more channels that are 0 or 1 everywhere; for any other two dense layers of F units. Source: Schwarzer et al.
    2021 (SPR), s. 2.2, without its batch normalisation, as in Schwarzer et al. 2023 (BBF).
    """

    def __init__(self, torso: Torso, num_actions: int):
        super().__init__()
        self.num_actions = num_actions
        self.map_shape = torso.map_shape if isinstance(torso, ImageTorso) else None
        width = torso.out_features if self.map_shape is None else self.map_shape[0]
        self.first, self.second = (
            nn.Linear(inputs, width) if self.map_shape is None else nn.Conv2d(inputs, width, 3, padding=1)
            for inputs in (width + num_actions, width)
        )

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        chosen = (action.unsqueeze(-1) == torch.arange(self.num_actions, device=action.device)).to(features.dtype)
        if self.map_shape is not None:
            features = features.unflatten(1, self.map_shape)
            chosen = chosen[:, :, None, None].expand(-1, -1, *self.map_shape[1:])
        hidden = torch.relu(self.first(torch.cat([features, chosen], 1)))
        return renormalized(torch.relu(self.second(hidden)).flatten(1))

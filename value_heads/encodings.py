"""Encodings: returns <-> probabilities over value bins.

Dimensions: B batch, K atoms, m bins. The m bins lie evenly between transform(v_min) and transform(v_max), widened
on each side by `padding` bins: 0 puts the outer *edges* on the range, 1/2 the outer *centers*.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from value_heads.base import Atoms, Support
from value_heads.registry import resolve
from value_heads.transforms import TRANSFORMS, Transform

Decode = Literal["mean_of_inverse", "inverse_of_mean"]


class Encoding(nn.Module, ABC):
    """Bins over a range of returns, how a return is spread over them, and how a mean is read off them.

    Args:
        support: (v_min, v_max), in units of return. Returns outside are clamped to it.
        num_bins: m, at least 2.
        padding: bins added beyond each end of the range (a class has its own default).
        transform: name of the space in which bins are evenly spaced, see `TRANSFORMS`.
        decode: `mean_of_inverse` reads sum_i p_i g(z_i), as DreamerV3 does, where g is the transform's inverse;
            `inverse_of_mean` reads g(sum_i p_i z_i), as MuZero does. They agree for the identity. Only the first
            is linear in p, so only it is unbiased when returns are random (Jensen).

    Raises:
        ValueError: for a range that is empty or not finite, or too few bins for the padding.
    """

    padding: float = 0.0
    exact: bool = False  # whether mean(encode(y)) is y on the whole range
    edges: Tensor  # [m+1], in transformed space
    centers: Tensor  # [m], in transformed space
    grid: Tensor  # [m], bin centers in the space in which the mean is taken

    def __init__(
        self,
        support: Support,
        num_bins: int,
        padding: float | None = None,
        *,
        transform: str = "identity",
        decode: Decode = "mean_of_inverse",
    ):
        super().__init__()
        v_min, v_max = support
        if not (math.isfinite(v_min) and math.isfinite(v_max) and v_min < v_max):
            raise ValueError(f"support must be (v_min, v_max) with v_min < v_max and both finite, got {support}")
        padding = self.padding if padding is None else padding
        if num_bins < 2 or num_bins <= 2 * padding:
            raise ValueError(f"num_bins must be at least 2 and more than twice the padding {padding:g}, got {num_bins}")
        if decode not in ("mean_of_inverse", "inverse_of_mean"):
            raise ValueError(f"decode must be 'mean_of_inverse' or 'inverse_of_mean', got {decode!r}")
        self.support, self.num_bins, self.decode = Support(v_min, v_max), num_bins, decode
        self.transform: Transform = resolve(TRANSFORMS, transform, kind="transform", group="classyq.transforms")
        low, high = self.transform.forward(torch.tensor([v_min, v_max], dtype=torch.float64)).tolist()
        width = (high - low) / (num_bins - 2 * padding)
        edges = torch.linspace(low - padding * width, high + padding * width, num_bins + 1, dtype=torch.float64)
        centers = (edges[:-1] + edges[1:]) / 2
        grid = self.transform.inverse(centers) if decode == "mean_of_inverse" else centers
        self.width = width
        for name, buffer in (("edges", edges), ("centers", centers), ("grid", grid)):
            self.register_buffer(name, buffer.float(), persistent=False)

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """One return each, already inside the range: [...] -> probabilities [..., m]."""

    def forward(self, atoms: Atoms) -> Tensor:
        """The projection of a return distribution: atoms [..., K] -> probabilities [..., m], in float32."""
        values = atoms.values.float().clamp(*self.support)
        return (atoms.probs.float().unsqueeze(-1) * self.encode(values)).sum(-2)

    def mean(self, probs: Tensor) -> Tensor:
        """The decoded return: [..., m] -> [...]."""
        mean = (probs * self.grid).sum(-1)
        return mean if self.decode == "mean_of_inverse" else self.transform.inverse(mean)

    @property
    def mean_preserving(self) -> bool:
        """Whether mean(forward(atoms)) is the mean of any atoms inside the range, so that they may be bootstrapped."""
        return self.exact and (self.decode == "mean_of_inverse" or self.transform is TRANSFORMS["identity"])

    def values(self) -> Tensor:
        """Bin centers in units of return, [m]."""
        return self.transform.inverse(self.centers)

    def to_grid(self, values: Tensor) -> Tensor:
        """Returns, in the space in which the mean is taken."""
        return values if self.decode == "mean_of_inverse" else self.transform.forward(values)


class OneHot(Encoding):
    """All mass on the bin that holds the return: p = e_i, off by up to half a bin.

    A return on an inner edge goes to the lower bin. Source: Ruoss et al. 2024 (chess); the naive baseline of
    Farebrother et al. 2024, s. 3.1.
    """

    def encode(self, values: Tensor) -> Tensor:
        index = torch.bucketize(self.transform.forward(values).contiguous(), self.edges[1:-1])
        return (index.unsqueeze(-1) == torch.arange(self.num_bins, device=index.device)).float()


class TwoHot(Encoding):
    """Linear interpolation between the two nearest bin centers, exact in the mean on the whole range.

    p_i = relu(1 - |y - z_i| / (z_{i+1} - z_i)) and its mirror image: the hat function, which is also C51's
    projection of a Dirac. Written with quotients on both sides so that uneven bins and returns exactly on a
    center keep all their mass.
    Source: Farebrother et al. 2024, eq. 3.2 (its two weights are exchanged in print); Bellemare et al. 2017.
    """

    padding = 0.5
    exact = True

    def encode(self, values: Tensor) -> Tensor:
        gap = torch.diff(self.grid)
        before, after = torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]])
        distance = self.to_grid(values).clamp(self.grid[0], self.grid[-1]).unsqueeze(-1) - self.grid
        return (1 - torch.where(distance < 0, -distance / before, distance / after)).clamp(min=0)

    def forward(self, atoms: Atoms) -> Tensor:
        """As of every encoding, without a table of atoms x bins: an atom has mass on two bins, and none elsewhere."""
        values = self.to_grid(atoms.values.float().clamp(*self.support)).clamp(self.grid[0], self.grid[-1])
        above = torch.bucketize(values.contiguous(), self.grid).clamp(1, self.num_bins - 1)
        low, high, probs = self.grid[above - 1], self.grid[above], atoms.probs.float()
        share = (values - low) / (high - low)
        nothing = torch.zeros_like(values[..., :1]).expand(*values.shape[:-1], self.num_bins)
        return nothing.scatter_add(-1, above - 1, probs * (1 - share)).scatter_add(-1, above, probs * share)


class HLGauss(Encoding):
    """The mass that a Gaussian around the return puts on each bin, renormalised to the bins.

    p_i = (F(e_{i+1}) - F(e_i)) / (F(e_{m+1}) - F(e_1)) with F the distribution function of N(y, sigma^2).
    y is clamped to the range, without which 0/0 arises 5.42 sigma outside of it. The mean is off by at most
    (w/pi) exp(-2 pi^2 (sigma/w)^2) inside (w = bin width; 4.8e-6 w at 0.75), and by up to 0.69 w at the ends
    of the range with `bin_placement = "edges"`, 0.37 w with "centered", 3.7e-3 w with "padded".

    Args:
        sigma_ratio: sigma in bin widths.
        bin_placement: `edges` as in the paper, `centered` (outer centers on the range), `padded` (3 sigma more).

    Source: Imani & White 2018; Farebrother et al. 2024, eq. 3.3 and listing 1 (0.75, edges, no clamping);
    padding: Imani et al. 2024, "Investigating the Histogram Loss in Regression".
    """

    def __init__(
        self,
        support: Support,
        num_bins: int,
        *,
        sigma_ratio: float = 0.75,
        bin_placement: Literal["edges", "centered", "padded"] = "edges",
        transform: str = "identity",
        decode: Decode = "mean_of_inverse",
    ):
        if not sigma_ratio > 0:
            raise ValueError(f"sigma_ratio must be positive, got {sigma_ratio}")
        paddings = {"edges": 0.0, "centered": 0.5, "padded": 3 * sigma_ratio}
        if bin_placement not in paddings:
            raise ValueError(f"bin_placement must be one of {', '.join(paddings)}, got {bin_placement!r}")
        padding = paddings[bin_placement]
        super().__init__(support, num_bins, padding, transform=transform, decode=decode)
        self.sigma = sigma_ratio * self.width

    def encode(self, values: Tensor) -> Tensor:
        center = self.transform.forward(values).unsqueeze(-1)
        cdf = torch.erf((self.edges - center) / (math.sqrt(2) * self.sigma))
        return torch.diff(cdf) / (cdf[..., -1:] - cdf[..., :1])


ENCODINGS: dict[str, type[Encoding]] = {"one_hot": OneHot, "two_hot": TwoHot, "hl_gauss": HLGauss}

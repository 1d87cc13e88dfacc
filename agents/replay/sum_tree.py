"""Weights of many leaves, sampled in proportion: a tree of sums, updated and looked up for a whole batch at once.

Dimensions: K leaves of one call, F children of a node.
"""

import math

import torch
from torch import Tensor

FAN_OUT = 32
"""Children of a node, F: a million leaves (32**4) are four steps deep."""


def row_sum(values: Tensor) -> Tensor:
    """Sums [...] over the last dimension, added up from the first to the last on a CPU.

    So a sum there is a function of what is summed, to the bit, whatever is summed beside it. `torch.sum` does not say
    in which order it adds.
    """
    return values.cumsum(-1).select(-1, -1)


class SumTree:
    """`capacity` leaves of weight >= 0, all 0 at first, and the sums above them, in float64.

    `levels[0]` is the root [1, 1]; row i of a further level [rows, F] holds the children of node i of the level
    before it. A parent is made anew from its children whenever one changes, so sums do not drift: whatever the
    history, the tree is a function of its leaves (on a CPU to the bit).
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu"):
        self.capacity = capacity
        rows = [capacity]
        while rows[0] > 1 or len(rows) == 1:
            rows.insert(0, math.ceil(rows[0] / FAN_OUT))
        self.levels = [torch.zeros(1, 1, dtype=torch.float64, device=device)]
        self.levels += [torch.zeros(n, FAN_OUT, dtype=torch.float64, device=device) for n in rows[:-1]]
        self.weights = self.levels[-1].view(-1)[:capacity]  # of the leaves
        behind = torch.arange(FAN_OUT, device=device)
        self.behind, self.ahead = behind, 2 * FAN_OUT - behind

    def total(self) -> Tensor:
        """The sum of all weights, a scalar."""
        return self.levels[0][0, 0]

    def set(self, leaf: Tensor, weight: Tensor) -> None:
        """Give leaves [K] weights [K]; a leaf that is named several times takes the largest of them."""
        self.weights.scatter_reduce_(0, leaf, weight, "amax", include_self=False)
        if len(leaf) * FAN_OUT > self.capacity:
            self.sum_all()
            return
        for parents, children in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            leaf = leaf // FAN_OUT
            parents.view(-1).index_copy_(0, leaf, row_sum(children.index_select(0, leaf)))

    def set_all(self, weights: Tensor) -> None:
        """Give every leaf its weight [capacity]."""
        self.weights.copy_(weights)
        self.sum_all()

    def sum_all(self) -> None:
        for parents, children in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            parents.view(-1)[: len(children)] = row_sum(children)

    def find(self, at: Tensor) -> Tensor:
        """The leaves [K] at which the running sum of weights first exceeds `at` [K].

        No leaf of weight 0 is ever returned, whatever `at` is and however the sums were rounded, as long as one has
        more: below 0 it is the first that has, from the total on it is the last. At every node one child that weighs
        more than 0 is chosen; there is one, as the node itself does.
        """
        node = torch.zeros_like(at, dtype=torch.int64)
        at = at.unsqueeze(-1)
        for level in self.levels[1:]:
            weight = level.index_select(0, node)  # [K, F]
            upto = weight.cumsum(-1)
            # The first child whose running sum exceeds `at`, or else the last: the largest of these numbers.
            preference = torch.where(upto > at, self.ahead, self.behind).masked_fill_(weight == 0, -1)
            child = preference.argmax(-1, keepdim=True)
            at = at - (upto.gather(-1, child) - weight.gather(-1, child))
            node = node * FAN_OUT + child.squeeze(-1)
        return node

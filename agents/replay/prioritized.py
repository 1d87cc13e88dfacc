"""Prioritised experience replay (Schaul et al. 2016): what surprised most is sampled most.

Dimensions: T rows of the ring, N environments, B batch. Leaf `(row % T) * N + env` of a sum tree belongs to the
transition that starts at (row, env); its weight is priority**exponent where that can be sampled, and 0 elsewhere.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.replay.observations import Shape
from agents.replay.rows import Indices, sent
from agents.replay.sum_tree import SumTree
from agents.replay.uniform import UniformReplay


class PrioritizedReplay(UniformReplay):
    """The last `capacity_steps` transitions, sampled with probability P(i) = p_i**exponent / sum_k p_k**exponent.

    p_i = |error_i| + epsilon, from the last update that saw transition i. One that no update has seen yet has the
    largest priority so far, which is 1 before the first update and never falls. Importance weights
    w_i = (M P(i))**-beta of M transitions are divided by the largest of the batch: w_i = (min_j P(j) / P(i))**beta.

    The two published variants, and one more:
        compact Rainbow [2]: priority="loss", exponent=0.5, epsilon=1e-10, importance_exponent=0.5
        BTR [3]: priority="td_error", exponent=0.2, epsilon=1e-6, importance_exponent=0.2
        Rainbow [4]: priority="loss", exponent=0.5, importance_exponent=0.4, importance_steps=the run's,
            uniform_mix=1e-3, stratified=False

    Args:
        priority: what `error` is: the head's `error` (of the means, or of quantiles in pairs), or its loss.
        exponent: 0 is uniform replay, 1 is proportional to the error.
        epsilon: keeps what has no error from never being seen again.
        importance_exponent: beta; 0 corrects nothing, 1 makes a batch unbiased up to the division by the largest.
        importance_steps: beta rises linearly to 1 over these environment steps; None leaves it where it is.
        stratified: one draw from each of B equal parts of the total instead of B draws from all of it.
        uniform_mix: P(i) = (1 - uniform_mix) P(i) + uniform_mix / M.
        replay: the arguments of `UniformReplay`.

    Raises:
        ValueError: where an option is out of its range.
        ReplayTooLargeError: before anything is allocated.

    Source: [1] Schaul et al. 2016, s. 3.3, 3.4 and appendix B.2.1, where stratified draws are; new transitions begin
    with the maximum as in its algorithm 1, here when they become whole, n steps later. [2] Dopamine, rainbow_agent.py
    and sum_tree.py; 1e-10 is added to P as well there. [3] Clark et al. 2025, Beyond the Rainbow.
    [4] Hessel et al. 2018, with the uniform part as in DeepMind's dqn_zoo.
    """

    bytes_beside = 9  # a float64, and its share of the sums

    def __init__(
        self,
        capacity_steps: int,
        num_envs: int,
        obs_shape: Shape,
        obs_dtype: torch.dtype,
        *,
        priority: Literal["td_error", "loss"] = "td_error",
        exponent: float = 0.5,
        epsilon: float = 1e-6,
        importance_exponent: float = 0.4,
        importance_steps: int | None = None,
        stratified: bool = True,
        uniform_mix: float = 0.0,
        **replay: Any,
    ):
        if priority not in ("td_error", "loss"):
            raise ValueError(f"priority {priority!r} is unknown. Choose from: td_error, loss")
        if exponent < 0:
            raise ValueError(f"exponent {exponent} is negative, which would sample the smallest errors most")
        if epsilon <= 0:
            raise ValueError(f"epsilon {epsilon} must be positive: without an error nothing would be sampled again")
        if not 0 <= importance_exponent <= 1:
            raise ValueError(f"importance_exponent {importance_exponent} is not between 0 and 1")
        if importance_steps is not None and importance_steps < 1:
            raise ValueError(f"importance_steps {importance_steps} must be at least 1, or not given")
        if not 0 <= uniform_mix < 1:
            raise ValueError(f"uniform_mix {uniform_mix} is not in [0, 1)")
        super().__init__(capacity_steps, num_envs, obs_shape, obs_dtype, **replay)
        self.priority, self.exponent, self.epsilon = priority, exponent, epsilon
        self.importance_exponent, self.importance_steps = importance_exponent, importance_steps
        self.stratified, self.uniform_mix = stratified, uniform_mix
        self.tree = SumTree(self.num_rows * num_envs, self.device)
        self.max_weight = torch.ones((), dtype=torch.float64, device=self.device)
        self.start, self.stop = (torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(2))
        self.note_weighted(0, 0)

    def weigh_new(self) -> None:
        """Bring the tree up to the rows that can be sampled now.

        Done before the tree is used and not as rows are added: the largest weight so far changes in between only.
        """
        (first, stop), (old_first, old_stop) = self.valid_rows(), self.weighted_rows
        first, stop = max(first, old_first), max(stop, old_stop)
        if (first, stop) == self.weighted_rows:
            return
        gone, new = self.leaves(old_first, min(first, old_stop)), self.leaves(max(first, old_stop), stop)
        weight = torch.cat([self.max_weight.new_zeros(len(gone)), self.max_weight.expand(len(new))])
        self.tree.set(torch.cat([gone, new]), weight)
        self.note_weighted(first, stop)

    def note_weighted(self, first: int, stop: int) -> None:
        """Absolute rows [first, stop) have a weight in the tree: for the host, and as steps for the device."""
        self.weighted_rows = first, stop
        self.start.fill_(first * self.num_envs)
        self.stop.fill_(stop * self.num_envs)

    def leaves(self, first: int, stop: int) -> Tensor:
        """The leaves of absolute rows [first, stop), none where that is empty."""
        start = first * self.num_envs
        return torch.arange(start, max(start, stop * self.num_envs), device=self.device) % self.tree.capacity

    def leaf(self, indices: Indices) -> Tensor:
        """The leaves [B] of transitions."""
        return indices.step % self.tree.capacity

    def sample(self, batch_size: int) -> tuple[Batch, Indices]:
        """`batch_size` transitions in proportion to priority**exponent, with their importance weights.

        Raises:
            ValueError: where there are none yet.
        """
        batch, indices = super().sample(batch_size)
        return batch._replace(weight=self.importance_weights(self.probability(indices))), indices

    def draw(self, batch_size: int, uniform: Tensor | None = None) -> Indices:
        """Where the transitions of a batch start: the inverse of the distribution function at `uniform` numbers."""
        self.weigh_new()
        uniform = sent(self.uniform(batch_size), self.device) if uniform is None else uniform
        leaf = self.tree.find((uniform - self.uniform_mix) / (1 - self.uniform_mix) * self.tree.total())
        step = self.start + (leaf - self.start) % self.tree.capacity
        if self.uniform_mix:
            any_step = self.start + (uniform / self.uniform_mix * (self.stop - self.start)).long()
            step = torch.where(uniform < self.uniform_mix, torch.minimum(any_step, self.stop - 1), step)
        return Indices(step, self.num_envs)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) for batches [..., B], on the host."""
        uniform = torch.rand(shape, dtype=torch.float64, generator=self.generator)
        return (torch.arange(shape[-1]) + uniform) / shape[-1] if self.stratified else uniform

    def probability(self, indices: Indices) -> Tensor:
        """P(i) [B], float64, of transitions that can be sampled."""
        by_priority = self.tree.weights[self.leaf(indices)] / self.tree.total()
        return by_priority.mul_(1 - self.uniform_mix).add_(self.uniform_mix / (self.stop - self.start).double())

    def importance_weights(self, probability: Tensor, beta: Tensor | None = None) -> Tensor:
        """(min_j P(j) / P(i))**beta [B], float32, of the batch's P [B]; beta is that of now unless it is given."""
        return ((probability.min() / probability) ** (self.beta() if beta is None else beta)).float()

    def beta(self) -> float:
        """The importance exponent at the present number of environment steps."""
        if self.importance_steps is None:
            return self.importance_exponent
        done = min(1.0, self.rows * self.num_envs / self.importance_steps)
        return self.importance_exponent + done * (1 - self.importance_exponent)

    def update_priorities(self, indices: Indices, td_error: Tensor, losses: Tensor) -> None:
        """What an update saw of a batch, [B] each. A transition that was drawn twice keeps the larger priority.

        An error that is no finite number counts as the largest so far. What is no longer there is left out.
        """
        self.weigh_new()
        error = (td_error if self.priority == "td_error" else losses).to(self.device, torch.float64)
        weight = (error.abs() + self.epsilon) ** self.exponent
        weight = torch.where(weight.isfinite(), weight, self.max_weight)
        self.max_weight.copy_(torch.maximum(self.max_weight, weight.max()))
        leaf = self.leaf(indices)
        there = (indices.step >= self.start) & (indices.step < self.stop) & (self.tree.weights[leaf] > 0)
        self.tree.set(leaf, torch.where(there, weight, self.tree.weights[leaf]))

    def metrics(self) -> dict[str, float]:
        """Of the weights priority**exponent: the mean, and the largest so far, which new transitions have."""
        self.weigh_new()
        return {
            "replay/priority_mean": float(self.tree.total()) / max(1, len(self)),
            "replay/priority_max": float(self.max_weight),
            "replay/importance_exponent": self.beta(),
        }

    def state_dict(self) -> dict[str, Any]:
        """As of uniform replay, and the priorities: they change after their row went into a segment."""
        now = {"weights": self.tree.weights.clone(), "max": self.max_weight.clone(), "rows": list(self.weighted_rows)}
        return super().state_dict() | {"priorities": now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state; the rows follow by `restore`."""
        super().load_state_dict(state)
        priorities = state["priorities"]
        self.tree.set_all(priorities["weights"].to(self.device))
        self.max_weight.copy_(priorities["max"])
        self.note_weighted(*priorities["rows"])

"""Whole updates on a GPU: sample, gather, target, gradient, clip, optimiser and priorities are one CUDA graph.

`DQN.update` is the definition: a launch does what that many calls of it do, with the same random numbers.

K updates of a launch, B batch.
"""

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.learning.captured import graph_of
from agents.learning.learner import Gradient
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.rows import Indices, sent
from agents.replay.uniform import UniformReplay

if TYPE_CHECKING:
    from agents.dqn import DQN

MOST = 16  # updates of one launch: more make a larger graph, and the time between two launches is hidden already


def whole_updates(agent: "DQN") -> "WholeUpdates | None":
    """For an agent that has all of an update on one GPU, and whose updates differ in nothing but what tensors hold."""
    on_one_gpu = agent.device.type == "cuda" and agent.replay.device == agent.device
    known = type(agent.replay) in (UniformReplay, PrioritizedReplay)  # another one draws in a way of its own
    if not (on_one_gpu and known and agent.learner.td_loss.recordable) or agent.annealing is not None:
        return None
    return WholeUpdates(agent, int(agent.settings.replay_ratio * agent.num_envs))


class WholeUpdates:
    """Makes many updates of an agent in one launch, and waits for none of them.

    What the host alone knows is put into tensors first: what is random in where batches start, by the generator of
    the replay, the exponent of importance weights, and the factor of rewards. What heads, output layers and
    augmentation draw is drawn within the graph, by the generator of the learner. The first updates of each kind are
    made without a graph, and are as good: capturing one does nothing, so a resumed run may do it at another time. A
    graph reads tensors where they lay, and so is captured anew where the replay has others.

    Args:
        agent: with its replay on its device. On a CPU there are no graphs, and the same is computed.
        per_launch: updates of one launch where as many are due and none of them is followed by something else.
        after: launches of a kind before it is captured.
    """

    def __init__(self, agent: "DQN", per_launch: int, *, after: int = 10):
        self.agent, self.learner, self.replay = agent, agent.learner, agent.replay
        self.per_launch, self.after = max(1, min(per_launch, MOST)), after
        self.target_follows = self.learner.target_every_updates == 1  # in every update, and so within the graph
        device, shape = agent.device, (self.per_launch, agent.settings.batch_size)
        self.prioritized = self.replay if isinstance(self.replay, PrioritizedReplay) else None
        self.numbers = torch.zeros(
            shape, dtype=torch.int64 if self.prioritized is None else torch.float64, device=device
        )
        self.beta, self.reward_factor = (torch.ones((), dtype=torch.float64, device=device) for _ in range(2))
        self.calls = dict.fromkeys((1, self.per_launch), 0)
        self.graphs: dict[int, Callable[[], Gradient]] = {}
        self.read: list[Tensor] = []  # what the graphs were captured from
        self.baked: Any = None
        self.failed = False

    def __call__(self, count: int) -> None:
        """Make `count` updates of the agent."""
        while count and not self.failed:
            size = self.per_launch if min(count, self.undisturbed()) >= self.per_launch else 1
            with self.agent.stopwatch("learn"):
                self.learner.last = gradient = self.launch(size)
                self.agent.last_update = gradient.update
                self.made(size)
            count -= size
        for _ in range(count):
            self.agent.update()

    def undisturbed(self) -> int:
        """How many updates follow one another before the target network does, or weights are reset."""
        resets, every = self.agent.resets, self.learner.target_every_updates
        periods = [every] if every and not self.target_follows else []
        periods += [resets.every_updates] if resets else []
        return min((period - self.learner.num_updates % period for period in periods), default=MOST)

    def made(self, size: int) -> None:
        """Do what comes after updates, and is no part of a graph."""
        if self.target_follows:
            self.learner.num_updates += size
        else:
            for _ in range(size):
                self.learner.count()
        if self.agent.resets is not None:
            self.agent.resets.after_update()

    def launch(self, size: int) -> Gradient:
        """Make `size` updates; what the last of them saw is overwritten by the next launch."""
        self.prepare(size)
        compute = functools.partial(self.compute, size)
        self.forget_what_moved()
        self.calls[size] += 1
        if size not in self.graphs and self.calls[size] > self.after and not self.failed:
            self.graphs[size] = self.capture(compute)
        return self.graphs.get(size, compute)()

    def prepare(self, size: int) -> None:
        """Put where graphs read it what the host has to say of the next `size` updates."""
        shape = (size, self.numbers.shape[1])
        if self.prioritized is None:
            self.numbers[:size] = self.replay.draw(shape[0] * shape[1]).step.view(shape)
        else:
            self.prioritized.weigh_new()
            self.numbers[:size] = sent(self.prioritized.uniform(*shape), self.agent.device)
            self.beta.fill_(self.prioritized.beta())
        self.reward_factor.fill_(self.agent.reward_factor())

    def forget_what_moved(self) -> None:
        """Let go of graphs that were captured from other tensors or numbers than those of now."""
        replay, store = self.replay, self.replay.observations
        read = [getattr(replay, name) for name in (*replay.row_names(), "gammas", "steps_ahead")]
        read += [store.frames, store.finals, store.final_slot, store.age]
        baked = store.stack, store.pad_zeros, self.learner.optimizer.lr
        if baked != self.baked or any(now is not before for now, before in zip(read, self.read, strict=True)):
            if self.graphs and self.agent.device.type == "cuda":
                torch.cuda.synchronize(self.agent.device)  # one of them may be running
            self.graphs.clear()
            self.read, self.baked = read, baked  # held, so that nothing else comes to lie where a graph reads

    def capture(self, compute: Callable[[], Gradient]) -> Callable[[], Gradient]:
        """The graph of `compute`. Where that cannot be, itself, and from then on updates are made one by one."""
        state = self.learner.generator.get_state()
        try:
            return graph_of(compute, self.agent.device, self.learner.generator)
        except Exception as error:  # whatever a part from outside does that cannot be captured
            warnings.warn(f"updates are not captured whole, which would be faster: {error}", stacklevel=5)
            self.failed = True
            # Capturing that failed leaves a generator that cannot draw any more.
            self.learner.generator = torch.Generator(self.agent.device)
            self.learner.generator.set_state(state)
            return compute

    def compute(self, size: int) -> Gradient:
        """`size` updates, by tensors alone; what the last of them saw."""
        *earlier, last = self.numbers[:size].unbind()
        for numbers in earlier:
            self.update(numbers)
        return self.update(last)

    def update(self, numbers: Tensor) -> Gradient:
        """As `DQN.update`, where `numbers` [B] say where the batch starts."""
        replay, learner, prioritized = self.replay, self.learner, self.prioritized
        if prioritized is None:
            batch = replay.gather(indices := Indices(numbers, replay.num_envs))
        else:
            batch = replay.gather(indices := prioritized.draw(len(numbers), numbers))
            beta = None if prioritized.importance_steps is None else self.beta  # None: it never changes
            weight = prioritized.importance_weights(prioritized.probability(indices), beta)
            batch = batch._replace(weight=weight)
        if self.agent.reward_scale is not None:
            batch = batch._replace(reward=batch.reward * self.reward_factor)
        gradient = learner.step(batch, learner.differentiate)
        if prioritized is not None:
            update = gradient.update
            prioritized.update_priorities(indices, update.prediction.error(update.goal), update.losses)
        if self.target_follows:
            learner.sync_target()
        return gradient

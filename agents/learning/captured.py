"""A function of tensors on a GPU, captured once in a CUDA graph and launched as that from then on.

Where a small network is trained, a GPU waits for Python to launch hundreds of kernels one by one. A graph launches
them all at once. What can be captured is what can be recorded (agents.learning.recorded), with one condition more:
nothing in it waits for the device. Random numbers are arguments, drawn before by a generator whose state is in the
checkpoint: a graph holds no state, so it makes no difference to a resumed run when it was captured.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.learning.recorded import Recorded, rebuild

WARM_UP = 3  # calls on a side stream, in which libraries choose their algorithms and allocate


class Captured(Recorded):
    """`function`, called as it is at first, and captured for each kind of arguments that comes often.

    It must have no effect but its results, as it is called several times where it is captured. Its results lie where
    those of the next call will: whoever wants to keep them makes a copy.

    Args:
        device: on which all tensors are.
        after: calls of one kind before it is captured.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, after: int = 10):
        super().__init__(function, after)
        self.device = device
        self.num_graphs = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Captured":
        """A copy of the function, without what was captured, which has the tensors of the old one."""
        return Captured(copy.deepcopy(self.function, memo), self.device, self.after)

    def record(self, args: Any, tensors: list[Tensor]) -> Callable[..., Any]:
        """The function that takes the tensors of arguments to results; `tensors` are where the graph reads them."""
        try:
            launch = capture(lambda: self.function(*rebuild(args, iter(tensors))), self.device)
        except Exception as error:  # whatever a part from outside does that cannot be captured
            warnings.warn(f"not captured in a CUDA graph, which would be faster: {error}", stacklevel=4)
            return torch.inference_mode(mode=False)(lambda *given: self.function(*rebuild(args, iter(given))))

        self.num_graphs += 1

        def replay(*given: Tensor) -> Any:
            for to, source in zip(tensors, given, strict=True):
                to.copy_(source)
            return launch()

        return replay


def capture(compute: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """As `graph_of`, for what has no effect but its results, after it was computed a few times."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(stream)
    return graph_of(compute, device)


def graph_of(compute: Callable[[], Any], device: torch.device, *generators: torch.Generator) -> Callable[[], Any]:
    """A launch of all that `compute` does on a GPU, which gives its results, in the same places every time.

    Nothing is done while it is captured. What it draws must come from `generators`: a launch draws what computing
    would have drawn, and leaves them in the same state. Without a GPU it is `compute`.
    """
    if device.type != "cuda":
        return compute
    current = torch.cuda.current_stream(device)
    with torch.cuda.device(device), torch.cuda.stream(current):  # which is current again even where capturing fails
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            results = compute()

    def launch() -> Any:
        graph.replay()
        return results

    return launch

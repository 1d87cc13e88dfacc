"""A function of tensors, written down once as the tensor operations that it makes, and from then on repeated from that.

Modules, dataclasses and autograd's graph are there for people and for generality, and with a small network they take
longer than the arithmetic. Recording runs the function once, notes every operation that reaches torch's dispatcher,
those of the gradient too (`make_fx`), and writes a function that makes them and nothing else. They are the same
operations on the same numbers, so the results are the same to the bit.

A function can be recorded if its operations do not depend on values, and if all that changes from call to call is in
its arguments, or in tensors (weights, buffers) that are changed in place. What cannot be recorded is called as it is.
"""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from agents.learning.simplified import simplify

aten = torch.ops.aten
# Operations under the names that Python's arguments reach in half the time; what is not here is called as it was noted.
QUICK = {
    aten._addmm_activation.default: torch._addmm_activation,
    aten.add.Tensor: torch.add,
    aten.addmm.default: torch.addmm,
    aten.argmax.default: torch.argmax,
    aten.as_strided.default: torch.as_strided,
    aten.bmm.default: torch.bmm,
    aten.clamp_min.default: torch.clamp_min,
    aten.div.Scalar: torch.div,
    aten.div.Tensor: torch.div,
    aten.exp.default: torch.exp,
    aten.expand.default: Tensor.expand,
    aten.gather.default: torch.gather,
    aten.mean.default: torch.mean,
    aten.mm.default: torch.mm,
    aten.mul.Scalar: torch.mul,
    aten.mul.Tensor: torch.mul,
    aten.neg.default: torch.neg,
    aten.relu.default: torch.relu,
    aten.scatter_add.default: torch.scatter_add,
    aten.squeeze.dim: torch.squeeze,
    aten.sub.Tensor: torch.sub,
    aten.sum.dim_IntList: torch.sum,
    aten.t.default: torch.t,
    aten.unsqueeze.default: torch.unsqueeze,
    aten.view.default: Tensor.view,
    aten.where.self: torch.where,
}


def recorded(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function, made faster and nothing else: recorded on a CPU, captured in CUDA graphs on a GPU."""
    from agents.learning.captured import Captured  # which is made of what is in this module

    if device.type == "cuda":
        return Captured(function, device)
    return Recorded(function) if device.type == "cpu" else function


class Recorded:
    """`function`, called as it is at first, and recorded for each kind of arguments that comes often.

    Arguments and results are tensors, or tuples, lists, dicts and dataclasses of tensors and of anything that stays the
    same. Results are inference tensors: nothing can be differentiated through them.

    Args:
        after: calls of one kind before it is recorded, which takes as long as hundreds of calls.
    """

    def __init__(self, function: Callable[..., Any], after: int = 200):
        self.function, self.after = function, after
        self.calls: dict[Any, int] = {}  # of each kind of arguments, before it was recorded
        self.recordings: dict[Any, Callable[..., Any]] = {}
        self.inference_mode = torch.inference_mode()

    def __call__(self, *args: Any) -> Any:
        tensors, kind = [], []
        collect(args, tensors, kind)
        key = tuple(kind)
        recording = self.recordings.get(key)
        if recording is None:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] <= self.after:
                return self.function(*args)
            with torch.inference_mode(mode=False), torch.enable_grad():
                recording = self.recordings[key] = self.record(args, [tensor.clone() for tensor in tensors])
        with self.inference_mode:
            return recording(*tensors)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorded":
        """A copy of the function, without what was recorded, which has the tensors of the old one."""
        return Recorded(copy.deepcopy(self.function, memo), self.after)

    def record(self, args: Any, tensors: list[Tensor]) -> Callable[..., Any]:
        """The function that takes the tensors of arguments to results."""
        try:
            return record(self.function, args, tensors)
        except Exception as error:  # whatever a part from outside does that cannot be recorded
            warnings.warn(f"not recorded, which would be faster: {error}", stacklevel=4)
            return torch.inference_mode(mode=False)(lambda *given: self.function(*rebuild(args, iter(given))))


def record(function: Callable[..., Any], args: Any, tensors: list[Tensor]) -> Callable[..., Any]:
    """The operations of `function` on the tensors in `args`, as a function of these."""
    from torch.fx.experimental.proxy_tensor import make_fx  # half a second, which short runs do without

    results: list[Any] = []

    def flat(*given: Tensor) -> list[Tensor]:
        results.append(function(*rebuild(args, iter(given))))
        outputs: list[Tensor] = []
        collect(results[-1], outputs, [])
        return outputs

    module = make_fx(flat)(*tensors)
    return write(module.graph, simplify(module, tensors), results[-1])


def collect(value: Any, tensors: list[Tensor], kind: list[Any]) -> None:
    """All tensors in `value`, in order, and what must be the same for a recording to fit."""
    if isinstance(value, Tensor):
        tensors.append(value)
        kind.append((value.shape, value.dtype, value.stride()))
    elif value is None:
        kind.append(None)
    elif isinstance(value, (tuple, list)):
        for part in value:
            if type(part) is Tensor:  # as nearly all are: without a call for each
                tensors.append(part)
                kind.append((part.shape, part.dtype, part.stride()))
            elif part is None:
                kind.append(None)
            else:
                collect(part, tensors, kind)
    elif isinstance(value, dict):
        kind.extend(value)
        for part in value.values():
            collect(part, tensors, kind)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            collect(getattr(value, field.name), tensors, kind)


def rebuild(value: Any, tensors: Iterator[Tensor]) -> Any:
    """`value` with other tensors, in the order of `collect`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, tuple | list):
        parts = [rebuild(part, tensors) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {name: rebuild(part, tensors) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: rebuild(getattr(value, f.name), tensors) for f in dataclasses.fields(value)}
        )
    return value


def write(graph: fx.Graph, constants: Mapping[fx.Node, Tensor], result: Any) -> Callable[..., Any]:
    """A Python function of the placeholders of a graph that makes its operations one after the other.

    What is not needed any more is let go at once, as it would be without recording. The outputs come back in a
    structure like that of `result`.
    """
    names: dict[str, Any] = {}

    def constant(value: Any) -> str:
        names[f"k{len(names)}"] = value
        return f"k{len(names) - 1}"

    def text(value: Any) -> str:
        if isinstance(value, fx.Node):
            return constant_names[value] if value in constants else value.name
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(text, value))}]"
        return repr(value) if value is None or isinstance(value, int | bool) else constant(value)

    def structure(value: Any, outputs: Iterator[str]) -> str:
        if isinstance(value, Tensor):
            return next(outputs)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name!r}: {structure(part, outputs)}" for name, part in value.items()) + "}"
        if isinstance(value, list):
            return f"[{', '.join(structure(part, outputs) for part in value)}]"
        if isinstance(value, tuple):
            parts = "".join(f"{structure(part, outputs)}, " for part in value)
            return f"{constant(type(value))}({parts})" if hasattr(value, "_fields") else f"({parts})"
        if dataclasses.is_dataclass(value):
            fields = [f"{f.name}={structure(getattr(value, f.name), outputs)}" for f in dataclasses.fields(value)]
            return f"{constant(type(value))}({', '.join(fields)})"
        return constant(value)

    constant_names = {node: constant(value) for node, value in constants.items()}
    nodes = [node for node in graph.nodes if node not in constants]
    last_use = {used: node for node in nodes for used in node.all_input_nodes if used not in constants}
    over: dict[fx.Node, list[str]] = {}
    for used, node in last_use.items():
        over.setdefault(node, []).append(used.name)
    lines = []
    for node in nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            lines.append(f"return {structure(result, map(text, node.args[0]))}")
            continue
        arguments = [text(a) for a in node.args] + [f"{name}={text(a)}" for name, a in node.kwargs.items()]
        call = QUICK.get(node.target) or getattr(node.target, "_op", node.target)
        lines.append(f"{node.name} = {constant(call)}({', '.join(arguments)})")
        if node in over:
            lines.append(f"del {', '.join(over[node])}")
    given = ", ".join(node.name for node in nodes if node.op == "placeholder")
    exec("\n    ".join([f"def operations({given}):", *lines]), names)
    return names["operations"]

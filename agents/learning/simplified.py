"""A recorded graph of torch's operations with fewer of them, which give the same to the bit."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
# Operations whose result depends on nothing but the shape of their argument.
OF_SHAPE = (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default)
OF_SHAPE += (aten.new_ones.default, aten.new_zeros.default, aten.new_full.default)
SAME = (aten.detach.default, aten.alias.default)  # operations that give their argument, where no gradient is followed


class Values(fx.Interpreter):
    """What each node of a graph gave when it was run."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module, garbage_collect_values=False)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.seen[n] = super().run_node(n)
        return self.seen[n]


def simplify(module: fx.GraphModule, tensors: list[Tensor]) -> dict[fx.Node, Tensor]:
    """Leave out of a graph what changes nothing, and give the tensors that it finds instead of computing.

    Views of weights, and what depends on shapes alone, are made here once; a view of a view is made in one step. Where
    an operation changes a tensor in place or draws random numbers, all stay. `tensors` are what it was recorded with.
    """
    graph, constants = module.graph, {}
    whole = any(isinstance(node.target, torch._ops.OpOverload) and not is_pure(node.target) for node in graph.nodes)
    seen: dict[str, fx.Node] = {}
    fixed: set[fx.Node] = set()  # constants that never change, as weights do
    values = Values(module)
    if not whole:
        values.run(*tensors)
    for node in list(graph.nodes):
        if node.op == "get_attr":
            constants[node] = operator.attrgetter(str(node.target))(module).detach()
        if node.op != "call_function":
            continue
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        twin = None
        if node.target in SAME:
            twin = first
        elif node.target is aten.t.default and first is not None and first.target is aten.t.default:
            twin = first.args[0]
        elif node.target is aten.mul.Tensor and changes_nothing(node, fixed, constants):
            twin = first
        elif first in constants and is_view(node.target):
            constants[node] = node.target(constants[first], *node.args[1:], **node.kwargs)
            fixed.update([node] if first in fixed else [])
        elif not whole and isinstance(node.target, torch._ops.OpOverload):
            if node.target in OF_SHAPE or fixed.issuperset(node.all_input_nodes):
                fixed.add(node)
                constants[node] = values.seen[node]
                continue
            in_one_step(node, values.seen)
            with_relu(node)
            twin = seen.setdefault(repr((node.target, node.args, node.kwargs)), node)
        if isinstance(twin, fx.Node) and twin is not node:
            node.replace_all_uses_with(twin)
            graph.erase_node(node)
    if not whole:
        graph.eliminate_dead_code()
    return constants


def in_one_step(node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
    """Make a node that is a view of views one of what they are views of, where that begins at the same number."""
    base = node
    while is_view(base.target) and isinstance(base.args[0], fx.Node):
        base = base.args[0]
    view, whole = values[node], values[base]
    if base in (node, node.args[0]) or view.storage_offset() != whole.storage_offset():
        return
    node.target, node.kwargs = aten.as_strided.default, {}
    node.args = (base, list(view.shape), list(view.stride()))


def changes_nothing(node: fx.Node, fixed: set[fx.Node], constants: Mapping[fx.Node, Tensor]) -> bool:
    """Whether a product is that of a tensor with ones that never change."""
    first, second = node.args
    if not (isinstance(first, fx.Node) and isinstance(second, fx.Node)) or second not in fixed:
        return False
    result, given = node.meta["tensor_meta"], first.meta["tensor_meta"]
    same = (result.shape, result.dtype, result.stride) == (given.shape, given.dtype, given.stride)
    return same and bool((constants[second] == 1).all())


def with_relu(node: fx.Node) -> None:
    """Where a node is the only one that uses a product, and makes its negative numbers 0, do that on the spot."""
    (product, *_) = node.args or (None,)
    if node.target is not aten.relu.default or not isinstance(product, fx.Node):
        return
    if product.target is aten.addmm.default and len(product.users) == 1:
        node.target, node.args, node.kwargs = aten._addmm_activation.default, product.args, product.kwargs


def is_pure(target: torch._ops.OpOverload) -> bool:
    """Whether an operation changes nothing, and gives the same for the same arguments."""
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def is_view(target: Any) -> bool:
    """Whether an operation gives another view of its first argument, and does nothing else."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    schema = target._schema
    alias = schema.arguments[0].alias_info if schema.arguments else None
    return alias is not None and not alias.is_write and [str(given.type) for given in schema.returns] == ["Tensor"]

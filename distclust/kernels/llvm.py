"""Pieces of LLVM IR that intrinsics are made of: vectors, and plain integers as addresses.

All of it is LLVM IR that each target lowers to its own shuffles and fused multiply-adds.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

__all__ = [
    "ROWS",
    "VECTOR_BYTES",
    "add_product",
    "fetch",
    "has_feature",
    "insert",
    "load",
    "mask",
    "plus",
    "splat",
    "store",
    "times",
    "transposed",
    "variable",
]

VECTOR_BYTES = 64  # of a vector: 16 of float32, 8 of float64
ROWS = 8  # that are worked on side by side

_FUSE = ("contract",)  # multiply-adds where the target has them


@cache
def has_feature(name: str) -> bool:
    """Whether what is compiled here may use an instruction set, such as ``"avx512f"``."""
    return f"+{name}" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def variable(builder: Any, value: Any) -> Any:
    """Make a variable of the whole function, and set it here: in a loop, each time round."""
    place = cgutils.alloca_once(builder, value.type)
    builder.store(value, place)
    return place


def add_product(builder: Any, place: Any, a: Any, b: Any) -> None:
    """Add a product to a variable, fused where the target can."""
    product = builder.fmul(a, b, flags=_FUSE)
    builder.store(builder.fadd(builder.load(place), product, flags=_FUSE), place)


def transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """Swap halves of ever shorter runs between pairs of lines: log2(ROWS) rounds.

    Of `ROWS` lines; of longer ones, each `ROWS` columns are transposed by themselves.
    """
    run, count = ROWS // 2, lines[0].type.count
    while run:
        swapped = list(lines)
        for i in range(ROWS):
            if i & run == 0:
                a, b = lines[i], lines[i + run]
                low = [c if c & run == 0 else count + c - run for c in range(count)]
                high = [c + run if c & run == 0 else count + c for c in range(count)]
                swapped[i] = builder.shuffle_vector(a, b, mask(low))
                swapped[i + run] = builder.shuffle_vector(a, b, mask(high))
        lines, run = swapped, run // 2
    return lines


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Load a value or vector of a type from an address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def store(builder: Any, value: Any, address: Any) -> None:
    """Store a value or vector at an address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def plus(builder: Any, value: Any, count: int) -> Any:
    """Add a constant."""
    return builder.add(value, ir.Constant(value.type, count))


def times(builder: Any, value: Any, count: int) -> Any:
    """Multiply by a constant."""
    return builder.mul(value, ir.Constant(value.type, count))


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """Put a scalar into every lane."""
    vector = ir.VectorType(value.type, lanes)
    zero = ir.Constant(ir.IntType(32), 0)
    start = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    return builder.shuffle_vector(start, start, mask([0] * lanes))


def mask(lanes: list[int]) -> Any:
    """Return the lanes that a shuffle takes."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def insert(
    builder: Any, value: Any, index: Any, least_at: Any, second_at: Any, labels_at: Any
) -> None:
    """Insert a vector of values into the two least of each lane."""
    least, second, labels = map(builder.load, (least_at, second_at, labels_at))
    nearer = builder.fcmp_ordered("<", value, least)
    loser = builder.select(nearer, least, value)
    builder.store(builder.select(nearer, value, least), least_at)
    builder.store(builder.select(nearer, index, labels), labels_at)
    next_best = builder.fcmp_ordered("<", loser, second)
    builder.store(builder.select(next_best, loser, second), second_at)


def fetch(builder: Any, address: Any) -> None:
    """Have the processor begin to fetch the cache line of an address that is read soon."""
    flag, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    to_read, keep, data = (ir.Constant(flag, value) for value in (0, 2, 1))
    builder.call(function, [builder.inttoptr(address, pointer), to_read, keep, data])

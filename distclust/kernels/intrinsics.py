"""What numba's Python cannot say to LLVM: shuffles, registers, bits of floats, saturation.

All of it is LLVM IR that each target lowers to its own shuffles and fused multiply-adds; only how
many registers there are is asked. Addresses are plain integers: callers keep them
inside their arrays.

`nearest_block` is the inner loop of K-Means: one vector of rows against as many
centers at a time as there are registers for, whose scores never leave them (K. Goto and R. van
de Geijn, "Anatomy of high-performance matrix multiplication", 2008, without the part that stores
the product).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distclust.kernels.llvm import (
    ROWS,
    VECTOR_BYTES,
    add_product,
    fetch,
    has_feature,
    insert,
    load,
    plus,
    splat,
    store,
    times,
    transposed,
    variable,
)

__all__ = [
    "bits_of",
    "fetch_soon",
    "lanes_within",
    "loosen",
    "nearest_block",
    "panel_widths",
    "transpose_block",
]

UNITS = ir.VectorType(ir.IntType(16), VECTOR_BYTES // 2)


@cache
def panel_widths() -> tuple[int, ...]:
    """Return how many centers may be in a panel, the most first: all their sums stay in registers.

    Eight would just do to keep multipliers busy; more of them share the loads of a row.
    """
    return tuple(range(12 if has_feature("avx512f") else 6, 0, -2))


@intrinsic
def bits_of(_: Any, value: Any) -> Any:
    """Return the bits of a float64 as int64, without a trip through memory."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(value), emit


@intrinsic
def fetch_soon(_: Any, address: Any) -> Any:
    """Have the processor begin to fetch a cache line of memory that is read soon."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        fetch(builder, args[0])
        return context.get_dummy_value()

    return types.void(address), emit


@intrinsic
def transpose_block(_: Any, rows: Any, offset: Any, scale: Any, ahead: Any, target: Any) -> Any:
    """Write ``(x - offset) * scale`` of `ROWS` values of as many rows, transposed.

    Parameters
    ----------
    rows : tuple of `ROWS` int
        IN: address of each row's values.
    offset : int
        IN: address of as many offsets.
    scale : float32 or float64
        Its type is that of all values.
    ahead : tuple of `ROWS` int
        Addresses of values that are fetched meanwhile.
    target : int
        OUT: address of the first column, written as a row; the next is `VECTOR_BYTES` on.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        sources, offset_at, factor, next_sources, target_at = args
        element = context.get_data_type(scale)
        vector = ir.VectorType(element, ROWS)
        factors, offsets = splat(builder, factor, ROWS), load(builder, offset_at, vector)
        lines = []
        for row in range(ROWS):
            fetch(builder, builder.extract_value(next_sources, row))
            x = load(builder, builder.extract_value(sources, row), vector)
            lines.append(builder.fmul(builder.fsub(x, offsets), factors))
        for column, line in enumerate(transposed(builder, lines)):
            store(builder, line, plus(builder, target_at, column * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(rows, offset, scale, ahead, target), emit


@intrinsic
def lanes_within(_: Any, bounds: Any, travelled: Any, limit: Any) -> Any:
    """Return the lanes in which ``bounds <= limit + travelled``, or that overflows, as bits.

    Parameters
    ----------
    bounds, travelled : int
        IN: addresses of uint16 values, a vector each.
    limit : uint16
    """

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        far, way = (load(builder, address, UNITS) for address in args[:2])
        reach = _saturating(builder, "uadd", splat(builder, args[2], UNITS.count), way)
        bits = builder.icmp_unsigned("<=", far, reach)
        return builder.zext(builder.bitcast(bits, ir.IntType(UNITS.count)), ir.IntType(64))

    return types.int64(bounds, travelled, limit), emit


@intrinsic
def loosen(_: Any, bounds: Any, travelled: Any) -> Any:
    """Take from a vector of bounds, uint16 values, what was travelled, but not below zero.

    Parameters
    ----------
    bounds : int
        INOUT: address.
    travelled : int
        IN: address.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        far, way = (load(builder, address, UNITS) for address in args)
        store(builder, _saturating(builder, "usub", far, way), args[0])
        return context.get_dummy_value()

    return types.void(bounds, travelled), emit


def _saturating(builder: Any, operation: str, a: Any, b: Any) -> Any:
    """Emit an operation of unsigned integers that stops at the least or greatest of them."""
    kind = ir.FunctionType(UNITS, [UNITS, UNITS])
    name = f"llvm.{operation}.sat.v{UNITS.count}i16"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b])


@intrinsic
def nearest_block(
    _: Any,
    seen: Any,
    n_features: Any,
    packed: Any,
    half_norms: Any,
    panels: Any,
    one: Any,
    out: Any,
) -> Any:
    """Find the two least values of ``half_norms - x.c`` for a vector of rows.

    Parameters
    ----------
    seen : int
        IN: address of (n_features, lanes) values, `VECTOR_BYTES` a feature.
    n_features : int
    packed : int
        IN: address of the centers, in panels of (n_features, width) values.
    half_norms : int
        IN: address of as many values as there are centers.
    panels : tuple of int
        How many there are of each of `panel_widths`; wider ones come first.
    one : float32 or float64
        Its type is that of all values.
    out : tuple of 4 int
        OUT: addresses of the least and second least values, the squared norms of what is
        seen, and the int32 indices of the least, the lowest of equals.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        seen_at, features, packed_at, half_at, counts, _one, outs = args
        element = context.get_data_type(one)
        vector = ir.VectorType(element, VECTOR_BYTES // context.get_abi_sizeof(element))
        indices = ir.VectorType(ir.IntType(32), vector.count)
        infinity = ir.Constant(vector, [float("inf")] * vector.count)
        least, second = variable(builder, infinity), variable(builder, infinity)
        labels = variable(builder, ir.Constant(indices, None))
        sq_norms = variable(builder, ir.Constant(vector, None))
        rows = _Rows(builder, seen_at, features, vector)
        with rows.each_feature() as (_, x):
            add_product(builder, sq_norms, x, x)
        first = ir.Constant(features.type, 0)
        for i, width in enumerate(panel_widths()):
            count = builder.extract_value(counts, i)
            with cgutils.for_range(builder, count) as panel:
                center = builder.add(first, times(builder, panel.index, width))
                scores = _panel_scores(rows, packed_at, half_at, center, width)
                for c, score in enumerate(scores):
                    index = builder.trunc(plus(builder, center, c), ir.IntType(32))
                    insert(
                        builder, score, splat(builder, index, vector.count), least, second, labels
                    )
            first = builder.add(first, times(builder, count, width))
        for i, place in enumerate((least, second, sq_norms, labels)):
            store(builder, builder.load(place), builder.extract_value(outs, i))
        return context.get_dummy_value()

    return types.void(seen, n_features, packed, half_norms, panels, one, out), emit


class _Rows:
    """A vector of rows, transposed, at an address."""

    def __init__(self, builder: Any, address: Any, n_features: Any, vector: Any) -> None:
        self.builder, self.address = builder, address
        self.n_features, self.vector = n_features, vector

    @contextmanager
    def each_feature(self) -> Iterator[tuple[Any, Any]]:
        """Emit a loop over features: its index, and the rows' values."""
        with cgutils.for_range(self.builder, self.n_features) as loop:
            shift = times(self.builder, loop.index, VECTOR_BYTES)
            address = self.builder.add(self.address, shift)
            yield loop.index, load(self.builder, address, self.vector)


def _panel_scores(rows: _Rows, packed: Any, half_norms: Any, center: Any, width: int) -> list[Any]:
    """Emit the scores of a panel of centers that begins with `center`."""
    builder, vector = rows.builder, rows.vector
    size = 4 if isinstance(vector.element, ir.FloatType) else 8
    zero = ir.Constant(vector, None)
    sums = [variable(builder, zero) for _ in range(width)]
    at = builder.add(packed, times(builder, builder.mul(center, rows.n_features), size))
    with rows.each_feature() as (feature, x):
        values = builder.add(at, times(builder, feature, width * size))
        for c, place in enumerate(sums):
            value = load(builder, plus(builder, values, c * size), vector.element)
            add_product(builder, place, x, splat(builder, value, vector.count))
    norms = builder.add(half_norms, times(builder, center, size))
    scores = []
    for c, place in enumerate(sums):
        norm = load(builder, plus(builder, norms, c * size), vector.element)
        scores.append(builder.fsub(splat(builder, norm, vector.count), builder.load(place)))
    return scores

"""What numba's Python cannot say to LLVM: shuffles, register blocking, bits of a float.

All of it is LLVM IR without a word of any instruction set, which each target lowers to
its own shuffles and fused multiply-adds. Addresses are plain integers: callers keep them
inside their arrays.

`nearest_block` is the inner loop of K-Means: one vector of rows against eight centers at
a time, whose scores never leave the registers (K. Goto and R. van de Geijn, "Anatomy of
high-performance matrix multiplication", 2008, without the part that stores the product).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["CENTERS", "ROWS", "VECTOR_BYTES", "bits_of", "nearest_block", "transpose_block"]

VECTOR_BYTES = 64  # of a vector of rows: 16 of float32, 8 of float64
ROWS = 8  # side of a transposed block
CENTERS = 8  # whose sums are kept in registers together

_FUSE = ("contract",)  # multiply-adds where the target has them


@intrinsic
def bits_of(_: Any, value: Any) -> Any:
    """Return the bits of a float64 as int64, without a trip through memory."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(value), emit


@intrinsic
def transpose_block(_: Any, rows: Any, offset: Any, scale: Any, target: Any) -> Any:
    """Write ``(x - offset) * scale`` of `ROWS` values of as many rows, transposed.

    Parameters
    ----------
    rows : tuple of `ROWS` int
        IN: address of each row's values.
    offset : int
        IN: address of as many offsets.
    scale : float32 or float64
        Its type is that of all values.
    target : int
        OUT: address of the first column, written as a row; the next is `VECTOR_BYTES` on.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        sources, offset_at, factor, target_at = args
        element = context.get_data_type(scale)
        vector = ir.VectorType(element, ROWS)
        factors, offsets = _splat(builder, factor, ROWS), _load(builder, offset_at, vector)
        lines = []
        for row in range(ROWS):
            x = _load(builder, builder.extract_value(sources, row), vector)
            lines.append(builder.fmul(builder.fsub(x, offsets), factors))
        for column, line in enumerate(_transposed(builder, lines)):
            _store(builder, line, _plus(builder, target_at, column * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(rows, offset, scale, target), emit


@intrinsic
def nearest_block(
    _: Any,
    seen: Any,
    n_features: Any,
    packed: Any,
    half_norms: Any,
    groups: Any,
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
        IN: address of (groups, n_features, `CENTERS`) values of the centers.
    half_norms : int
        IN: address of (groups, `CENTERS`) values.
    groups : int
    one : float32 or float64
        Its type is that of all values.
    out : tuple of 4 int
        OUT: addresses of the least and second least values, the squared norms of what is
        seen, and the int32 indices of the least, the lowest of equals.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        seen_at, features, packed_at, half_at, n_groups, _one, outs = args
        element = context.get_data_type(one)
        size = context.get_abi_sizeof(element)
        lanes = VECTOR_BYTES // size
        vector, integers = ir.VectorType(element, lanes), ir.VectorType(ir.IntType(32), lanes)
        zeros, infinity = ir.Constant(vector, None), ir.Constant(vector, [float("inf")] * lanes)

        def variable(value: Any) -> Any:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        def row_values(feature: Any) -> Any:
            shift = builder.mul(feature, ir.Constant(feature.type, VECTOR_BYTES))
            return _load(builder, builder.add(seen_at, shift), vector)

        def add_product(place: Any, a: Any, b: Any) -> None:
            product = builder.fmul(a, b, flags=_FUSE)
            builder.store(builder.fadd(builder.load(place), product, flags=_FUSE), place)

        least, second = variable(infinity), variable(infinity)
        labels, sq_norms = variable(ir.Constant(integers, None)), variable(zeros)
        with cgutils.for_range(builder, features) as loop:
            x = row_values(loop.index)
            add_product(sq_norms, x, x)
        sums = [variable(zeros) for _ in range(CENTERS)]
        with cgutils.for_range(builder, n_groups) as group:
            first = builder.mul(group.index, ir.Constant(group.index.type, CENTERS))
            panel = builder.mul(builder.mul(first, features), ir.Constant(first.type, size))
            for place in sums:
                builder.store(zeros, place)
            with cgutils.for_range(builder, features) as feature:
                x = row_values(feature.index)
                shift = builder.mul(feature.index, ir.Constant(first.type, CENTERS * size))
                at = builder.add(builder.add(packed_at, panel), shift)
                for c, place in enumerate(sums):
                    center = _load(builder, _plus(builder, at, c * size), element)
                    add_product(place, x, _splat(builder, center, lanes))
            norms_at = builder.add(half_at, builder.mul(first, ir.Constant(first.type, size)))
            for c, place in enumerate(sums):
                norm = _load(builder, _plus(builder, norms_at, c * size), element)
                score = builder.fsub(_splat(builder, norm, lanes), builder.load(place))
                index = builder.trunc(_plus(builder, first, c), ir.IntType(32))
                _insert(builder, score, _splat(builder, index, lanes), (least, second, labels))
        for i, place in enumerate((least, second, sq_norms, labels)):
            _store(builder, builder.load(place), builder.extract_value(outs, i))
        return context.get_dummy_value()

    signature = types.void(seen, n_features, packed, half_norms, groups, one, out)
    return signature, emit


def _insert(builder: Any, value: Any, index: Any, into: tuple[Any, Any, Any]) -> None:
    """Insert a vector of values into the two least of each lane."""
    least_at, second_at, labels_at = into
    least, second, labels = map(builder.load, into)
    nearer = builder.fcmp_ordered("<", value, least)
    loser = builder.select(nearer, least, value)
    builder.store(builder.select(nearer, value, least), least_at)
    builder.store(builder.select(nearer, index, labels), labels_at)
    next_best = builder.fcmp_ordered("<", loser, second)
    builder.store(builder.select(next_best, loser, second), second_at)


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """Swap halves of ever shorter runs between pairs of lines: log2(ROWS) rounds."""
    run = ROWS // 2
    while run:
        swapped = list(lines)
        for i in range(ROWS):
            if i & run == 0:
                a, b = lines[i], lines[i + run]
                low = [c if c & run == 0 else ROWS + c - run for c in range(ROWS)]
                high = [c + run if c & run == 0 else ROWS + c for c in range(ROWS)]
                swapped[i] = builder.shuffle_vector(a, b, _mask(low))
                swapped[i + run] = builder.shuffle_vector(a, b, _mask(high))
        lines, run = swapped, run // 2
    return lines


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def _plus(builder: Any, address: Any, count: int) -> Any:
    return builder.add(address, ir.Constant(address.type, count))


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    zero = ir.Constant(ir.IntType(32), 0)
    start = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    return builder.shuffle_vector(start, start, _mask([0] * lanes))


def _mask(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

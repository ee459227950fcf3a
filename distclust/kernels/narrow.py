"""Few centers: all of a row's scores in one vector.

With as few centers as a vector has lanes, a row's values are spread over the lanes one
after another, and its scores come out side by side, ready to be kept as bounds. Eight rows
at a time hide each other's latency. The products are those of
`distclust.kernels.intrinsics.nearest_block`, the other way round.
"""

from __future__ import annotations

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
    folded,
    load,
    plus,
    smaller,
    splat,
    store,
    times,
    variable,
)

__all__ = ["lanes_within", "score_rows"]


@intrinsic
def score_rows(
    _: Any,
    rows: Any,
    n_features: Any,
    offset: Any,
    scale: Any,
    centers: Any,
    half_norms: Any,
    scratch: Any,
    pitch: Any,
    ahead: Any,
    out: Any,
) -> Any:
    """Compute ``half_norms - x.c`` of `ROWS` rows and as many centers as a vector has lanes.

    Parameters
    ----------
    rows : tuple of `ROWS` int
        IN: address of each row's values.
    n_features : int
        No fewer than a vector's lanes.
    offset : int
        IN: address of as many offsets.
    scale : float32 or float64
        Rows are seen as ``(x - offset) * scale``. Its type is that of all values.
    centers, half_norms : int
        IN: addresses of (n_features, lanes) and (lanes,) values.
    scratch : int
        Address of (ROWS, pitch) values, zeros from n_features on.
    pitch : int
        A multiple of a vector's lanes.
    ahead : tuple of `ROWS` int
        Addresses of the rows after, which are fetched meanwhile.
    out : tuple of 5 int
        OUT: addresses of the scores, (ROWS, lanes), and of each row's least and second least,
        of its squared norm as it is seen, and of the int32 lane of the least score, the lowest
        of equals.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        element = context.get_data_type(scale)
        size = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, VECTOR_BYTES // size)
        line = builder.mul(args[7], ir.Constant(args[7].type, size))
        seen = [builder.add(args[6], times(builder, line, row)) for row in range(ROWS)]
        _see(builder, args[0], args[1], args[2], args[3], seen, vector)
        sq_norms = _sq_norms(builder, seen, line, vector)
        products = _products(builder, seen, args[1], args[4], args[8], vector)
        norms = load(builder, args[5], vector)
        outs = [builder.extract_value(args[9], i) for i in range(5)]
        for row, product in enumerate(products):
            scores = builder.fsub(norms, product)
            store(builder, scores, plus(builder, outs[0], row * VECTOR_BYTES))
            least = folded(builder, scores, smaller)
            equal = builder.fcmp_ordered("==", scores, splat(builder, least, vector.count))
            mask = builder.bitcast(equal, ir.IntType(vector.count))
            lane = builder.and_(  # of no lane, where nothing is a number, make any
                builder.cttz(mask, ir.Constant(ir.IntType(1), 0)),
                ir.Constant(mask.type, vector.count - 1),
            )
            numbers = ir.Constant(ir.VectorType(mask.type, vector.count), [*range(vector.count)])
            own = builder.icmp_unsigned("==", numbers, splat(builder, lane, vector.count))
            infinity = ir.Constant(vector, [float("inf")] * vector.count)
            others = builder.select(own, infinity, scores)
            second = folded(builder, others, smaller)
            values = (least, second, sq_norms[row], builder.zext(lane, ir.IntType(32)))
            for place, value in zip(outs[1:], values, strict=True):
                width = 4 if isinstance(value.type, ir.IntType) else size
                store(builder, value, plus(builder, place, row * width))
        return context.get_dummy_value()

    parts = (rows, n_features, offset, scale, centers, half_norms, scratch, pitch, ahead, out)
    return types.void(*parts), emit


@intrinsic
def lanes_within(_: Any, bounds: Any, travelled: Any, limit: Any, one: Any) -> Any:
    """Return the lanes in which not ``bounds - travelled > limit``, as bits.

    Parameters
    ----------
    bounds, travelled : int
        IN: addresses of float32 values.
    limit : float32
    one : float32 or float64
        As many lanes as a vector of its type has.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        lanes = VECTOR_BYTES // context.get_abi_sizeof(context.get_data_type(one))
        vector = ir.VectorType(ir.FloatType(), lanes)
        far = builder.fsub(load(builder, args[0], vector), load(builder, args[1], vector))
        beyond = builder.fcmp_ordered(">", far, splat(builder, args[2], lanes))
        bits = builder.bitcast(builder.not_(beyond), ir.IntType(lanes))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(bounds, travelled, limit, one), emit


def _see(
    builder: Any, rows: Any, features: Any, offset: Any, scale: Any, seen: list[Any], vector: Any
) -> None:
    """Emit writing rows as they are seen; a row's last vector may overlap the one before."""
    size, lanes = VECTOR_BYTES // vector.count, ir.Constant(features.type, vector.count)
    last, factors = builder.sub(features, lanes), splat(builder, scale, vector.count)
    zero = ir.Constant(features.type, 0)
    with cgutils.for_range_slice(builder, zero, features, lanes, features.type) as (block, _):
        column = builder.select(builder.icmp_signed("<", block, last), block, last)
        shift = times(builder, column, size)
        offsets = load(builder, builder.add(offset, shift), vector)
        for row in range(ROWS):
            x = load(builder, builder.add(builder.extract_value(rows, row), shift), vector)
            value = builder.fmul(builder.fsub(x, offsets), factors)
            store(builder, value, builder.add(seen[row], shift))


def _sq_norms(builder: Any, seen: list[Any], line: Any, vector: Any) -> list[Any]:
    """Emit the squared norms of rows of so many bytes, in any order of features."""
    sums = [variable(builder, ir.Constant(vector, None)) for _ in seen]
    zero, step = ir.Constant(line.type, 0), ir.Constant(line.type, VECTOR_BYTES)
    with cgutils.for_range_slice(builder, zero, line, step, line.type) as (shift, _):
        for place, row in zip(sums, seen, strict=True):
            x = load(builder, builder.add(row, shift), vector)
            add_product(builder, place, x, x)
    return [folded(builder, builder.load(place), ir.IRBuilder.fadd) for place in sums]


def _products(
    builder: Any, seen: list[Any], features: Any, centers: Any, ahead: Any, vector: Any
) -> list[Any]:
    """Emit the products of rows with the centers in the lanes.

    As many features as fill a cache line are followed by a line of each row ahead: fetched
    all at once, those would keep the processor waiting.
    """
    sums = [variable(builder, ir.Constant(vector, None)) for _ in seen]
    size, zero = VECTOR_BYTES // vector.count, ir.Constant(features.type, 0)
    lanes, one = ir.Constant(features.type, vector.count), ir.Constant(features.type, 1)
    with cgutils.for_range_slice(builder, zero, features, lanes, features.type) as (block, _):
        for row in range(ROWS):
            place = builder.add(builder.extract_value(ahead, row), times(builder, block, size))
            fetch(builder, place)
        end = builder.add(block, lanes)
        end = builder.select(builder.icmp_signed("<", end, features), end, features)
        with cgutils.for_range_slice(builder, block, end, one, features.type) as (feature, _):
            shift = times(builder, feature, VECTOR_BYTES)
            center = load(builder, builder.add(centers, shift), vector)
            shift = times(builder, feature, size)
            for place, row in zip(sums, seen, strict=True):
                x = load(builder, builder.add(row, shift), vector.element)
                add_product(builder, place, splat(builder, x, vector.count), center)
    return [builder.load(place) for place in sums]

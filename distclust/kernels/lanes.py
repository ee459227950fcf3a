"""Vector operations on 32 points at a time, said to LLVM with vector types.

What the search kernels spend their time in: distances of a point to a leaf, of a leaf to
a box, and sets of lanes as bits. Written as loops over arrays these would be broken up by
aliasing checks, a store after every feature and reference counts of slices; here a
feature is one load, and sums stay in registers. LLVM cuts the vectors to the width of
the processor. Nothing is contracted or reordered: sums run over features in order.

Arrays are C-contiguous; `blocks` is the (leaves, d, LANES) of `distclust.kernels.kdtree`,
and `out` or `values` hold at least `LANES` float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "RUN",
    "box_chebyshev",
    "box_manhattan",
    "box_sq_euclidean",
    "chebyshev",
    "insert_run",
    "lanes_below",
    "lanes_equal",
    "lanes_of",
    "lanes_up_to",
    "lanes_within",
    "lowest",
    "manhattan",
    "mutual_reach",
    "sq_euclidean",
]

LANES = 32
RUN = 16  # members of an ascending list that move at once

_I1, _I32, _I64, _F64 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_F64, LANES)

Value = Any  # llvmlite has no types for what it builds
Builder = Any
Join = Callable[[Builder, Value, Value], Value]


def _array(context: Any, builder: Builder, kind: Any, value: Value) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, value)


def _load(builder: Builder, pointer: Value) -> Value:
    """Load the vector that begins at an element."""
    element = pointer.type.pointee
    vector = builder.bitcast(pointer, ir.VectorType(element, LANES).as_pointer())
    return builder.load(vector, align=4 if element == _I32 else 8)


def _store(builder: Builder, vector: Value, pointer: Value) -> None:
    builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer()), align=8)


def _spread(builder: Builder, scalar: Value, lanes: int = LANES) -> Value:
    """Put a scalar into every lane."""
    nothing = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, scalar, ir.Constant(_I32, 0))
    first = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, nothing, first)


def _larger(builder: Builder, a: Value, b: Value) -> Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _plus_square(builder: Builder, total: Value, t: Value) -> Value:
    return builder.fadd(total, builder.fmul(t, t))


def _plus_size(builder: Builder, total: Value, t: Value) -> Value:
    return builder.fadd(total, _size(builder, t))


def _larger_size(builder: Builder, total: Value, t: Value) -> Value:
    return _larger(builder, total, _size(builder, t))


def _size(builder: Builder, t: Value) -> Value:
    return builder.select(builder.fcmp_ordered("<", t, _constant(0.0)), builder.fneg(t), t)


def _constant(value: float) -> Value:
    return ir.Constant(_VECTOR, [value] * LANES)


def _over_features(builder: Builder, d: Value, term: Callable[[Value], Value], join: Join) -> Value:
    """Join the terms of features 0 to d - 1, in order, starting from zero."""
    total = cgutils.alloca_once_value(builder, _constant(0.0))
    with cgutils.for_range(builder, d) as loop:
        builder.store(join(builder, builder.load(total), term(loop.index)), total)
    return builder.load(total)


def _lines(builder: Builder, blocks: Any, leaf: Value) -> tuple[Value, Value]:
    """Return where a leaf's coordinates begin, and the number of features."""
    d = cgutils.unpack_tuple(builder, blocks.shape)[1]
    size = builder.mul(d, ir.Constant(_I64, LANES))
    return builder.gep(blocks.data, [builder.mul(leaf, size)]), d


def _line(builder: Builder, lines: Value, feature: Value) -> Value:
    return builder.gep(lines, [builder.mul(feature, ir.Constant(_I64, LANES))])


def _point_to_leaf(join: Join) -> Any:
    """Make ``f(mine, leaf, q, theirs, other, out)``: distances of a point to a leaf's.

    The point is the q-th of a leaf of `mine`; both are `blocks`, maybe the same.
    """

    def typed(
        typing_context: Any, mine: Any, leaf: Any, q: Any, theirs: Any, other: Any, out: Any
    ) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
            from_lines, d = _lines(builder, _array(context, builder, mine, args[0]), args[1])
            to_lines, _ = _lines(builder, _array(context, builder, theirs, args[3]), args[4])

            def term(feature: Value) -> Value:
                x = builder.load(builder.gep(_line(builder, from_lines, feature), [args[2]]))
                others = _load(builder, _line(builder, to_lines, feature))
                return builder.fsub(_spread(builder, x), others)

            total = _over_features(builder, d, term, join)
            _store(builder, total, _array(context, builder, out, args[5]).data)
            return context.get_dummy_value()

        index = types.int64
        return types.void(mine, index, index, theirs, index, out), generate

    return intrinsic(typed)


sq_euclidean = _point_to_leaf(_plus_square)
manhattan = _point_to_leaf(_plus_size)
chebyshev = _point_to_leaf(_larger_size)


def _leaf_to_box(join: Join) -> Any:
    """Make ``f(blocks, leaf, low, high, node, out)``: distances of a leaf's points to a box."""

    def typed(
        typing_context: Any, blocks: Any, leaf: Any, low: Any, high: Any, node: Any, out: Any
    ) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
            lines, d = _lines(builder, _array(context, builder, blocks, args[0]), args[1])
            corner = builder.mul(args[4], d)
            lows, highs = (
                builder.gep(_array(context, builder, low, array).data, [corner])
                for array in args[2:4]
            )

            def term(feature: Value) -> Value:
                x = _load(builder, _line(builder, lines, feature))
                under, over = (
                    _spread(builder, builder.load(builder.gep(ends, [feature])))
                    for ends in (lows, highs)
                )
                outside = _larger(builder, builder.fsub(under, x), builder.fsub(x, over))
                return _larger(builder, outside, _constant(0.0))

            total = _over_features(builder, d, term, join)
            _store(builder, total, _array(context, builder, out, args[5]).data)
            return context.get_dummy_value()

        return types.void(blocks, types.int64, low, high, types.int64, out), generate

    return intrinsic(typed)


box_sq_euclidean = _leaf_to_box(_plus_square)
box_manhattan = _leaf_to_box(_plus_size)
box_chebyshev = _leaf_to_box(_larger_size)


def _compare(operator: str) -> Any:
    """Make ``f(values, bound)``: bit i says whether ``values[i] <operator> bound``.

    `bound` may also be an array: then it is ``bound[i]``.
    """

    def typed(typing_context: Any, values: Any, bound: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
            lanes = _load(builder, _array(context, builder, values, args[0]).data)
            if each:
                bounds = _load(builder, _array(context, builder, bound, args[1]).data)
            else:
                bounds = _spread(builder, args[1])
            return builder.bitcast(builder.fcmp_ordered(operator, lanes, bounds), _I32)

        each = isinstance(bound, types.Array)
        return types.uint32(values, bound if each else types.float64), generate

    return intrinsic(typed)


lanes_below = _compare("<")
lanes_up_to = _compare("<=")
lanes_equal = _compare("==")


@intrinsic
def lanes_of(typing_context: Any, groups: Any, place: Any, group: Any) -> Any:
    """Return bits that say whether ``groups[place + i] == group`` (int32)."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        whose = _load(
            builder, builder.gep(_array(context, builder, groups, args[0]).data, [args[1]])
        )
        return builder.bitcast(builder.icmp_signed("==", whose, _spread(builder, args[2])), _I32)

    return types.uint32(groups, types.int64, types.int32), generate


@intrinsic
def lanes_within(typing_context: Any, values: Any, place: Any, bound: Any) -> Any:
    """Return bits that say whether ``values[place + i] <= bound``."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        lanes = _load(
            builder, builder.gep(_array(context, builder, values, args[0]).data, [args[1]])
        )
        return builder.bitcast(builder.fcmp_ordered("<=", lanes, _spread(builder, args[2])), _I32)

    return types.uint32(values, types.int64, types.float64), generate


@intrinsic
def lowest(typing_context: Any, lanes: Any) -> Any:
    """Return the lowest member of a set that is not empty."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        return builder.zext(builder.cttz(args[0], ir.Constant(_I1, 1)), _I64)

    return types.int64(types.uint32), generate


@intrinsic
def mutual_reach(
    typing_context: Any, values: Any, cores: Any, groups: Any, place: Any, core: Any, group: Any
) -> Any:
    """Turn distances to the points from `place` on into mutual reachability (values: INOUT).

    ``values[i] = max(values[i], cores[place + i], core)``, or infinity where
    ``groups[place + i] == group`` (int32).
    """

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        scratch = _array(context, builder, values, args[0]).data
        theirs, whose = (
            _load(builder, builder.gep(_array(context, builder, kind, array).data, [args[3]]))
            for kind, array in ((cores, args[1]), (groups, args[2]))
        )
        reach = _larger(builder, theirs, _spread(builder, args[4]))
        reach = _larger(builder, reach, _load(builder, scratch))
        same = builder.icmp_signed("==", whose, _spread(builder, args[5]))
        _store(builder, builder.select(same, _constant(float("inf")), reach), scratch)
        return context.get_dummy_value()

    signature = types.void(values, cores, groups, types.int64, types.float64, types.int32)
    return signature, generate


@intrinsic
def insert_run(
    typing_context: Any, values: Any, names: Any, row: Any, start: Any, value: Any, name: Any
) -> Any:
    """Let a member into a sorted list, for its part from `start` on (values, names: INOUT).

    Members are pairs of ``values[row, i]`` (float64) and ``names[row, i]`` (int32), and lists
    ascend by both. Of the `RUN` members from `start` on, those above the new one move up; the
    last falls out, and the one before `start` comes in or, where that is below the new one, the
    new one itself. So a list has `RUN` members of minus infinity before the first, and its parts
    are done from the last to the first.
    """

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        def run(array: Any, kind: Any, at: Value, align: int) -> tuple[Value, Value]:
            rows = _array(context, builder, kind, array)
            width = cgutils.unpack_tuple(builder, rows.shape)[1]
            member = builder.gep(rows.data, [builder.add(builder.mul(args[2], width), at)])
            vector = ir.VectorType(member.type.pointee, RUN).as_pointer()
            pointer = builder.bitcast(member, vector)
            return pointer, builder.load(pointer, align=align)

        def with_lower(array: Any, kind: Any, align: int) -> tuple[Value, Value, Value]:
            pointer, old = run(array, kind, args[3], align)
            before = builder.sub(args[3], ir.Constant(_I64, RUN))
            _, lower = run(array, kind, before, align)
            by_one = ir.Constant(ir.VectorType(_I32, RUN), list(range(RUN - 1, 2 * RUN - 1)))
            return pointer, old, builder.shuffle_vector(lower, old, by_one)

        def precede(value: Value, name: Value) -> Value:
            equal = builder.fcmp_ordered("==", value, new)
            first = builder.and_(equal, builder.icmp_signed("<", name, new_name))
            return builder.or_(builder.fcmp_ordered("<", value, new), first)

        def extreme(which: str, a: Value, b: Value) -> Value:
            kind = ir.FunctionType(a.type, [a.type, b.type])
            called = f"llvm.{which}num.v{RUN}f64"
            fn = cgutils.get_or_insert_function(builder.module, kind, called)
            return builder.call(fn, [a, b], fastmath=("nnan", "nsz"))

        new, new_name = (_spread(builder, scalar, RUN) for scalar in args[4:])
        value_at, old, shifted = with_lower(args[0], values, 8)
        name_at, old_name, shifted_name = with_lower(args[1], names, 4)
        # not by a mask, as LLVM would make a masked store of it, and the next insertion's load
        # would have to wait for that
        moved = extreme("min", old, extreme("max", shifted, new))
        moved_name = builder.select(precede(shifted, shifted_name), new_name, shifted_name)
        builder.store(moved, value_at, align=8)
        stays = precede(old, old_name)
        builder.store(builder.select(stays, old_name, moved_name), name_at, align=4)
        return context.get_dummy_value()

    index = types.int64
    return types.void(values, names, index, index, types.float64, types.int32), generate

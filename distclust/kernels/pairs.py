"""Products of rows and centers in 16-bit integers, two features at a time.

What a processor multiplies and adds in one step is twice as many 16-bit integers as
float32, and they take half the memory. A *pair* is two of them in an int32, side by side;
products of pairs are exact, as `distclust.kernels.coded` sees to it that no sum overflows.

The instruction is the one thing LLVM does not find by itself, so it is named where the
target is known to have it; elsewhere, plain integer arithmetic says the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distclust.kernels.intrinsics import WIDTHS
from distclust.kernels.llvm import (
    ROWS,
    VECTOR_BYTES,
    fetch,
    insert,
    load,
    mask,
    plus,
    splat,
    store,
    times,
    transposed,
    variable,
)

__all__ = ["LANES", "nearest_coded", "transpose_words"]

LANES = VECTOR_BYTES // 4  # rows, or centers, of a vector
I32 = ir.IntType(32)
PAIRS = ir.VectorType(I32, LANES)
FLOAT = ir.FloatType()
FLOATS = ir.VectorType(FLOAT, LANES)

MULTIPLY_ADD = {  # a feature of the target, the instruction, and 16-bit integers it takes
    "+avx512bw": ("llvm.x86.avx512.pmaddw.d.512", 32),
    "+avx2": ("llvm.x86.avx2.pmadd.wd", 16),
}


@intrinsic
def transpose_words(_: Any, rows: Any, ahead: Any, target: Any) -> Any:
    """Write `ROWS` words, of 32 bits, of as many rows, transposed.

    Parameters
    ----------
    rows : tuple of `ROWS` int
        IN: address of each row's words.
    ahead : tuple of `ROWS` int
        Addresses of words that are fetched meanwhile.
    target : int
        OUT: address of the first column, written as a row; the next is `VECTOR_BYTES` on.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vector, lines = ir.VectorType(I32, ROWS), []
        for row in range(ROWS):
            fetch(builder, builder.extract_value(args[1], row))
            lines.append(load(builder, builder.extract_value(args[0], row), vector))
        for column, line in enumerate(transposed(builder, lines)):
            store(builder, line, plus(builder, args[2], column * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(rows, ahead, target), emit


@intrinsic
def nearest_coded(
    _: Any,
    words: Any,
    n_pairs: Any,
    packed: Any,
    half_norms: Any,
    units: Any,
    panels: Any,
    out: Any,
) -> Any:
    """Find the two least values of ``half_norms - x.c`` for a vector of coded rows.

    Parameters
    ----------
    words : int
        IN: address of (n_pairs + 2, `LANES`) words: pairs of the rows, and in float32 their
        units and squared norms.
    n_pairs : int
    packed : int
        IN: address of the centers' pairs, in panels of (n_pairs, width) words.
    half_norms, units : int
        IN: addresses of as many float32 as there are centers.
    panels : tuple of int
        How many there are of each of `WIDTHS`; wider ones come first.
    out : tuple of 4 int
        OUT: addresses of the least and second least values, the squared norms, and the int32
        indices of the least, the lowest of equals.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words_at, n_words, packed_at, norms_at, units_at, counts, outs = args
        infinity = ir.Constant(FLOATS, [float("inf")] * LANES)
        least, second = variable(builder, infinity), variable(builder, infinity)
        labels = variable(builder, ir.Constant(PAIRS, None))
        after = builder.add(words_at, times(builder, n_words, VECTOR_BYTES))
        row_units, sq_norms = (
            load(builder, plus(builder, after, i), FLOATS) for i in (0, VECTOR_BYTES)
        )
        center = ir.Constant(n_words.type, 0)
        for i, width in enumerate(WIDTHS):
            count = builder.extract_value(counts, i)
            with cgutils.for_range(builder, count) as panel:
                first = builder.add(center, times(builder, panel.index, width))
                sums = _panel_sums(context, builder, words_at, n_words, packed_at, first, width)
                shift = times(builder, first, 4)
                norms, own = builder.add(norms_at, shift), builder.add(units_at, shift)
                for c, total in enumerate(sums):
                    norm, unit = (
                        splat(
                            builder, load(builder, plus(builder, at, 4 * c), FLOATS.element), LANES
                        )
                        for at in (norms, own)
                    )
                    product = builder.fmul(builder.sitofp(total, FLOATS), unit)
                    score = builder.fsub(norm, builder.fmul(product, row_units))
                    index = builder.trunc(plus(builder, first, c), I32)
                    insert(builder, score, splat(builder, index, LANES), least, second, labels)
            center = builder.add(center, times(builder, count, width))
        values = builder.load(least), builder.load(second), sq_norms, builder.load(labels)
        for i, value in enumerate(values):
            store(builder, value, builder.extract_value(outs, i))
        return context.get_dummy_value()

    return types.void(words, n_pairs, packed, half_norms, units, panels, out), emit


def _panel_sums(
    context: Any, builder: Any, words: Any, n_pairs: Any, packed: Any, first: Any, width: int
) -> list[Any]:
    """Emit the products of a vector of rows with a panel of centers that begins with `first`."""
    sums = [variable(builder, ir.Constant(PAIRS, None)) for _ in range(width)]
    panel = builder.add(packed, times(builder, builder.mul(first, n_pairs), 4))
    with cgutils.for_range(builder, n_pairs) as loop:
        x = load(builder, builder.add(words, times(builder, loop.index, VECTOR_BYTES)), PAIRS)
        line = builder.add(panel, times(builder, loop.index, 4 * width))
        for c, place in enumerate(sums):
            center = splat(builder, load(builder, plus(builder, line, 4 * c), I32), LANES)
            builder.store(_add_pairs(context, builder, builder.load(place), x, center), place)
    return [builder.load(place) for place in sums]


def _add_pairs(context: Any, builder: Any, total: Any, a: Any, b: Any) -> Any:
    """Emit adding the products of two vectors of pairs."""
    features = context.codegen().magic_tuple()[2].split(",")
    for feature, (name, count) in MULTIPLY_ADD.items():
        if feature in features:
            return builder.add(total, _multiply_add(builder, name, count, a, b))
    sixteen = ir.Constant(PAIRS, [16] * LANES)
    products = [
        builder.mul(builder.ashr(x, sixteen), builder.ashr(y, sixteen))
        for x, y in ((a, b), (builder.shl(a, sixteen), builder.shl(b, sixteen)))
    ]
    return builder.add(builder.add(total, products[0]), products[1])


def _multiply_add(builder: Any, name: str, count: int, a: Any, b: Any) -> Any:
    """Emit the target's own instruction, as often as it takes for all lanes."""
    narrow = ir.VectorType(ir.IntType(16), count)
    kind = ir.FunctionType(ir.VectorType(I32, count // 2), [narrow, narrow])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    parts = []
    for first in range(0, LANES, count // 2):
        lanes = mask([*range(first, first + count // 2)])
        halves = [builder.bitcast(builder.shuffle_vector(x, x, lanes), narrow) for x in (a, b)]
        parts.append(builder.call(function, halves))
    if len(parts) == 1:
        return parts[0]
    return builder.shuffle_vector(*parts, mask([*range(LANES)]))

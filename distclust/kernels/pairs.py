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

from distclust.kernels.intrinsics import panel_widths
from distclust.kernels.llvm import (
    ROWS,
    VECTOR_BYTES,
    fetch,
    has_feature,
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

__all__ = [
    "GROUP",
    "LANES",
    "group_panel",
    "nearest_coded",
    "nearest_coded_group",
    "transpose_words",
]

LANES = VECTOR_BYTES // 4  # rows, or centers, of a vector
GROUP = 16  # centers
I32 = ir.IntType(32)
PAIRS = ir.VectorType(I32, LANES)
FLOAT = ir.FloatType()
FLOATS = ir.VectorType(FLOAT, LANES)

MULTIPLY_ADD = {  # a feature of the target, the instruction, and 16-bit integers it takes
    "avx512bw": ("llvm.x86.avx512.pmaddw.d.512", 32),
    "avx2": ("llvm.x86.avx2.pmadd.wd", 16),
}


def group_panel() -> int:
    """Return how many centers of a group are in a panel."""
    return max(width for width in panel_widths() if GROUP % width == 0)


@intrinsic
def transpose_words(_: Any, rows: Any, others: Any, target: Any) -> Any:
    """Write `ROWS` words, of 32 bits, of twice as many rows, transposed.

    Parameters
    ----------
    rows, others : tuple of `ROWS` int
        IN: address of each row's words.
    target : int
        OUT: address of the first column, written as a row; the next is `VECTOR_BYTES` on.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        half, lines = ir.VectorType(I32, ROWS), []
        side_by_side = mask([*range(LANES)])
        for row in range(ROWS):
            left, right = (load(builder, builder.extract_value(a, row), half) for a in args[:2])
            lines.append(builder.shuffle_vector(left, right, side_by_side))
        for column, line in enumerate(transposed(builder, lines)):
            store(builder, line, plus(builder, args[2], column * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(rows, others, target), emit


@intrinsic
def nearest_coded(
    _: Any,
    words: Any,
    n_pairs: Any,
    packed: Any,
    half_norms: Any,
    units: Any,
    panels: Any,
    ahead: Any,
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
        How many there are of each of `panel_widths`; wider ones come first.
    ahead : int
        Address of memory that is fetched meanwhile, as much as the pairs take: a line a pair,
        as more at once would keep the processor waiting.
    out : tuple of 4 int
        OUT: addresses of the least and second least values, the squared norms, and the int32
        indices of the least, the lowest of equals.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words_at, n_words, packed_at, norms_at, units_at, counts, ahead_at, outs = args
        least, second, labels = _two_least(builder)
        rows = _Rows(builder, words_at, n_words, ahead_at)
        center = ir.Constant(n_words.type, 0)
        for i, width in enumerate(panel_widths()):
            count = builder.extract_value(counts, i)
            with cgutils.for_range(builder, count) as panel:
                first = builder.add(center, times(builder, panel.index, width))
                for c, score in enumerate(rows.scores(packed_at, norms_at, units_at, first, width)):
                    index = builder.trunc(plus(builder, first, c), I32)
                    insert(builder, score, splat(builder, index, LANES), least, second, labels)
            center = builder.add(center, times(builder, count, width))
        values = *map(builder.load, (least, second)), rows.sq_norms, builder.load(labels)
        for i, value in enumerate(values):
            store(builder, value, builder.extract_value(outs, i))
        return context.get_dummy_value()

    return types.void(words, n_pairs, packed, half_norms, units, panels, ahead, out), emit


@intrinsic
def nearest_coded_group(
    _: Any, words: Any, n_pairs: Any, packed: Any, half_norms: Any, units: Any, group: Any, out: Any
) -> Any:
    """Find the two least of a group of `GROUP` centers, and insert them into the two least of all.

    Parameters
    ----------
    words, n_pairs, packed, half_norms, units
        As for `nearest_coded`, with all panels as wide as `group_panel`.
    group : int
        Its number.
    out : tuple of 6 int
        Addresses. INOUT: the least and second least values so far, and the indices of the
        least. OUT: the same of this group.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words_at, n_words, packed_at, norms_at, units_at, number, outs = args
        places = [builder.extract_value(outs, i) for i in range(6)]
        rows, own = _Rows(builder, words_at, n_words), _two_least(builder)
        width = group_panel()
        for panel in range(0, GROUP, width):
            first = plus(builder, times(builder, number, GROUP), panel)
            for c, score in enumerate(rows.scores(packed_at, norms_at, units_at, first, width)):
                index = builder.trunc(plus(builder, first, c), I32)
                insert(builder, score, splat(builder, index, LANES), *own)
        least, second, label = map(builder.load, own)
        kinds = (FLOATS, FLOATS, PAIRS)
        so_far = [
            variable(builder, load(builder, place, kind))
            for place, kind in zip(places, kinds, strict=False)
        ]
        insert(builder, least, label, *so_far)
        insert(builder, second, label, *so_far)
        values = [*map(builder.load, so_far), least, second, label]
        for place, value in zip(places, values, strict=True):
            store(builder, value, place)
        return context.get_dummy_value()

    return types.void(words, n_pairs, packed, half_norms, units, group, out), emit


def _two_least(builder: Any) -> tuple[Any, Any, Any]:
    """Make variables for the two least values of each lane, and the index of the least."""
    infinity = ir.Constant(FLOATS, [float("inf")] * LANES)
    labels = variable(builder, ir.Constant(PAIRS, None))
    return variable(builder, infinity), variable(builder, infinity), labels


class _Rows:
    """A vector of coded rows, transposed, at an address."""

    def __init__(self, builder: Any, words: Any, n_pairs: Any, ahead: Any = None) -> None:
        self.builder, self.words, self.n_pairs = builder, words, n_pairs
        self.ahead = ahead
        after = builder.add(words, times(builder, n_pairs, VECTOR_BYTES))
        self.units = load(builder, after, FLOATS)
        self.sq_norms = load(builder, plus(builder, after, VECTOR_BYTES), FLOATS)

    def scores(self, packed: Any, norms: Any, units: Any, first: Any, width: int) -> list[Any]:
        """Emit the scores of a panel of centers that begins with `first`."""
        builder, scores = self.builder, []
        shift = times(builder, first, 4)
        norms_at, units_at = builder.add(norms, shift), builder.add(units, shift)
        for c, total in enumerate(self._sums(packed, first, width)):
            norm, unit = (
                splat(builder, load(builder, plus(builder, at, 4 * c), FLOAT), LANES)
                for at in (norms_at, units_at)
            )
            product = builder.fmul(builder.sitofp(total, FLOATS), unit)
            rest = builder.fmul(product, self.units, flags=("contract",))
            scores.append(builder.fsub(norm, rest, flags=("contract",)))
        return scores

    def _fetched(self, first: Any) -> Any:
        """Emit what memory to fetch: with the first panel; later, words that are at hand."""
        if self.ahead is None:
            return None
        begins = self.builder.icmp_signed("==", first, ir.Constant(first.type, 0))
        return self.builder.select(begins, self.ahead, self.words)

    def _sums(self, packed: Any, first: Any, width: int) -> list[Any]:
        """Emit the products with a panel of centers."""
        builder = self.builder
        sums = [variable(builder, ir.Constant(PAIRS, None)) for _ in range(width)]
        panel = builder.add(packed, times(builder, builder.mul(first, self.n_pairs), 4))
        ahead = self._fetched(first)
        with cgutils.for_range(builder, self.n_pairs) as loop:
            shift = times(builder, loop.index, VECTOR_BYTES)
            if ahead is not None:
                fetch(builder, builder.add(ahead, shift))
            x = load(builder, builder.add(self.words, shift), PAIRS)
            line = builder.add(panel, times(builder, loop.index, 4 * width))
            for c, place in enumerate(sums):
                center = splat(builder, load(builder, plus(builder, line, 4 * c), I32), LANES)
                total = _add_pairs(builder, builder.load(place), x, center)
                builder.store(total, place)
        return [builder.load(place) for place in sums]


def _add_pairs(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """Emit adding the products of two vectors of pairs."""
    for feature, (name, count) in MULTIPLY_ADD.items():
        if has_feature(feature):
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

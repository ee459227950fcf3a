"""What is done in registers: the inner loops of products and of the Hadamard transform.

`llvm.fma` is one rounding by definition. A compiler that may contract, or not, and a BLAS
that picks a kernel for each processor leave the last bits to the machine; here nothing
does. A tile of sums is kept in registers (K. Goto and R. van de Geijn, "Anatomy of
high-performance matrix multiplication", 2008); its shape suits the processor, and since
every sum takes its terms in the same order, the shape cannot be seen in a result.
Addresses are plain integers: callers keep them inside their arrays.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distclust.kernels.llvm import load, mask, plus, splat, store, times, variable

__all__ = [
    "BUTTERFLY",
    "PANEL_BYTES",
    "TILE_ROWS",
    "add_gathered",
    "add_products",
    "butterflies",
    "fma",
]

_WIDE = bool(binding.get_host_cpu_features().get("avx512f", False))
VECTOR_BYTES = 64 if _WIDE else 32
TILE_ROWS = 6  # with two vectors each: 12 sums, and three registers to feed them
PANEL_BYTES = 2 * VECTOR_BYTES
BUTTERFLY = 16  # values that the first steps of a Hadamard transform combine


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``, rounded once."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _fma(builder, *args)

    return c(a, b, c), emit


@intrinsic
def add_products(
    _: Any, rows: Any, step: Any, panel: Any, count: Any, one: Any, out: Any, pitch: Any
) -> Any:
    """Add the products of some rows and a panel to a tile of sums, term by term.

    ``out[k, c] = fma(rows[k][t], panel[t, c], out[k, c])`` for t = 0, 1, ..., count - 1.

    Parameters
    ----------
    rows : tuple of int
        IN: address of each row's first value.
    step : int
        Bytes from a value of a row to the next.
    panel : int
        IN: address of (count, `PANEL_BYTES`) values.
    count : int
    one : float32 or float64
        Its type is that of all values.
    out : int
        INOUT: address of the first row of the tile, `PANEL_BYTES` wide.
    pitch : int
        Bytes from a row of the tile to the next.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        rows_at, step_bytes, panel_at, terms, _one, out_at, pitch_bytes = args
        element = context.get_data_type(one)
        vector = ir.VectorType(element, VECTOR_BYTES // context.get_abi_sizeof(element))
        starts = cgutils.unpack_tuple(builder, rows_at)
        places = [
            builder.add(plus(builder, out_at, v * VECTOR_BYTES), times(builder, pitch_bytes, k))
            for k in range(len(starts))
            for v in range(2)
        ]
        sums = _loaded(builder, places, vector)
        with cgutils.for_range(builder, terms) as loop:
            line = builder.add(panel_at, times(builder, loop.index, PANEL_BYTES))
            shift = builder.mul(loop.index, step_bytes)
            pair = [load(builder, plus(builder, line, v * VECTOR_BYTES), vector) for v in (0, 1)]
            for k, start in enumerate(starts):
                x = splat(builder, load(builder, builder.add(start, shift), element), vector.count)
                for v, w in enumerate(pair):
                    total = sums[2 * k + v]
                    builder.store(_fma(builder, x, w, builder.load(total)), total)
        _write_back(builder, sums, places)
        return context.get_dummy_value()

    return types.void(rows, step, panel, count, one, out, pitch), emit


@intrinsic
def add_gathered(
    _: Any, indices: Any, values: Any, count: Any, one: Any, columns: Any, out: Any
) -> Any:
    """Add a sparse combination of columns to a line of sums, term by term.

    ``out[c] = fma(columns[indices[t], c], values[t], out[c])`` for t = 0, ..., count - 1.

    Parameters
    ----------
    indices : int
        IN: address of int32.
    values : int
        IN: address of as many values.
    count : int
    one : float32 or float64
        Its type is that of all values.
    columns : int
        IN: address of lines of twice `PANEL_BYTES`.
    out : int
        INOUT: address of such a line.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        indices_at, values_at, terms, _one, columns_at, out_at = args
        element = context.get_data_type(one)
        size = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, VECTOR_BYTES // size)
        places = [plus(builder, out_at, v * VECTOR_BYTES) for v in range(4)]
        sums = _loaded(builder, places, vector)
        with cgutils.for_range(builder, terms) as loop:
            index_at = builder.add(indices_at, times(builder, loop.index, 4))
            index = builder.zext(load(builder, index_at, ir.IntType(32)), ir.IntType(64))
            line = builder.add(columns_at, times(builder, index, 2 * PANEL_BYTES))
            value_at = builder.add(values_at, times(builder, loop.index, size))
            value = splat(builder, load(builder, value_at, element), vector.count)
            for v, total in enumerate(sums):
                x = load(builder, plus(builder, line, v * VECTOR_BYTES), vector)
                builder.store(_fma(builder, x, value, builder.load(total)), total)
        _write_back(builder, sums, places)
        return context.get_dummy_value()

    return types.void(indices, values, count, one, columns, out), emit


@intrinsic
def butterflies(_: Any, values: Any, signs: Any, one: Any, out: Any) -> Any:
    """Make the first steps of a Hadamard transform of `BUTTERFLY` values times as many signs.

    Parameters
    ----------
    values, signs : int
        IN: addresses.
    one : float32 or float64
        Its type is that of all values.
    out : int
        OUT: address.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        values_at, signs_at, _one, out_at = args
        element = context.get_data_type(one)
        vector, lanes = ir.VectorType(element, BUTTERFLY), range(BUTTERFLY)
        line = builder.fmul(load(builder, values_at, vector), load(builder, signs_at, vector))
        half = 1
        while half < BUTTERFLY:
            partner = mask([lane ^ half for lane in lanes])
            own_sign = ir.Constant(vector, [-1.0 if lane & half else 1.0 for lane in lanes])
            other = builder.shuffle_vector(line, line, partner)
            line, half = builder.fadd(other, builder.fmul(line, own_sign)), 2 * half
        store(builder, line, out_at)
        return context.get_dummy_value()

    return types.void(values, signs, one, out), emit


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = a.type
    if isinstance(kind, ir.VectorType):
        name = f"llvm.fma.v{kind.count}{kind.element.intrinsic_name}"
    else:
        name = f"llvm.fma.{kind.intrinsic_name}"
    function = ir.FunctionType(kind, [kind] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [a, b, c])


def _loaded(builder: Any, places: list[Any], vector: Any) -> list[Any]:
    """Load what is at each address into a variable of its own."""
    return [variable(builder, load(builder, place, vector)) for place in places]


def _write_back(builder: Any, variables: list[Any], places: list[Any]) -> None:
    for value, place in zip(variables, places, strict=True):
        store(builder, builder.load(value), place)

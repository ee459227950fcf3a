"""Two things that numba's Python cannot say to LLVM: transpose a block, and see bits.

Both are plain LLVM IR, which every target lowers to its own shuffles.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["LANES", "bits_of", "transpose_block"]

LANES = 8


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(_: Any, value: Any) -> Any:
    """Return the bits of a float64 as int64, without a trip through memory."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), emit


@intrinsic  # type: ignore[untyped-decorator]
def transpose_block(
    _: Any, sources: Any, offset: Any, scale: Any, target: Any, stride: Any
) -> Any:
    """Write ``(x - offset) * scale`` of a square block of `LANES` rows, transposed.

    Parameters
    ----------
    sources : tuple of `LANES` int
        IN: address of `LANES` values, for each row.
    offset : int
        IN: address of `LANES` values.
    scale : float32 or float64
        Its type is that of all values.
    target : int
        OUT: address of the block's first column, to be written as a row.
    stride : int
        Bytes from one row of the target to the next.
    """
    signature = types.void(sources, offset, scale, target, stride)

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        rows, offset_at, factor, target_at, step = args
        element = context.get_data_type(scale)
        size = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, LANES)

        def at(address: Any) -> Any:
            return builder.inttoptr(address, vector.as_pointer())

        start = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, _index(0))
        factors = builder.shuffle_vector(start, start, _mask([0] * LANES))
        offsets = builder.load(at(offset_at), align=size)
        lines = []
        for row in range(LANES):
            x = builder.load(at(builder.extract_value(rows, row)), align=size)
            lines.append(builder.fmul(builder.fsub(x, offsets), factors))
        for column, line in enumerate(_transposed(builder, lines)):
            address = builder.add(target_at, builder.mul(step, ir.Constant(step.type, column)))
            builder.store(line, at(address), align=size)
        return context.get_dummy_value()

    return signature, emit


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """Swap halves of ever shorter runs between pairs of lines: log2(LANES) rounds."""
    run = LANES // 2
    while run:
        swapped = list(lines)
        for i in range(LANES):
            if i & run == 0:
                a, b = lines[i], lines[i + run]
                low = [c if c & run == 0 else LANES + c - run for c in range(LANES)]
                high = [c + run if c & run == 0 else LANES + c for c in range(LANES)]
                swapped[i] = builder.shuffle_vector(a, b, _mask(low))
                swapped[i + run] = builder.shuffle_vector(a, b, _mask(high))
        lines, run = swapped, run // 2
    return lines


def _index(value: int) -> Any:
    return ir.Constant(ir.IntType(32), value)


def _mask(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)

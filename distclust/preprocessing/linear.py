"""Rows times a matrix that is at hand: what PCA does, and what undoes a projection."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block
from distclust.data.steps import Names, RowStep
from distclust.kernels.product import Panels, centered_product, product

__all__ = ["Multiply", "numbered"]

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Multiply(RowStep):
    """Makes ``(x - offset) @ matrix.T + shift`` of a row.

    Differences and sums are rounded from float64 to the row's dtype, in which the product is
    made.
    """

    matrix: F64  # (m, d)
    offset: F64 | None = None  # (d,)
    shift: F64 | None = None  # (m,)
    prefix: str | None = None  # of the names of what comes out

    def __call__(self, block: Block) -> Block:
        X, panels = block.X, self._panels(block.X.dtype)
        made = (
            product(X, panels) if self.offset is None else centered_product(X, self.offset, panels)
        )
        if self.shift is not None:
            made = (made + self.shift).astype(X.dtype, copy=False)
        return Block(made, block.row_start, block.weights)

    def n_features_out(self, n_features: int) -> int:
        return len(self.matrix)

    def feature_names_out(self, names: Names) -> Names:
        return numbered(self.prefix, len(self.matrix), names)

    def _panels(self, dtype: np.dtype[Any]) -> Panels:
        if dtype not in self._arranged:
            self._arranged[dtype] = Panels.of(self.matrix.astype(dtype))
        return self._arranged[dtype]

    @cached_property
    def _arranged(self) -> dict[np.dtype[Any], Panels]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def numbered(prefix: str | None, count: int, names: Names) -> Names:
    """Name new features as scikit-learn does, where the old ones had names."""
    if prefix is None or names is None:
        return None
    return tuple(f"{prefix}{i}" for i in range(count))

"""Rows projected at random, by a matrix that is made where the rows are.

A step is a seed and a shape. What it multiplies with is regenerated from them, once in a
process as long as it is in use; see `distclust.random_projection`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from distclust.data.blocks import Block
from distclust.data.steps import Names, RowStep
from distclust.kernels.hadamard import BUTTERFLY, hadamard_project, hadamard_rows
from distclust.kernels.product import (
    Panels,
    SparseMatrix,
    product,
    product_of_sparse,
    product_of_sparse_rows,
    product_with_sparse,
)
from distclust.kernels.random_matrix import (
    normal_matrix,
    random_signs,
    random_subset,
    sparse_signs,
)
from distclust.preprocessing.linear import numbered

__all__ = ["GaussianStep", "HadamardStep", "RandomStep", "SparseStep", "transform_size"]

SPARSE_DENSITY, SPARSE_COMPONENTS = 0.1, 128  # zeros are worth skipping: fewer nonzeros, more sums

Rows = npt.NDArray[Any]
Dtype = np.dtype[Any]


@dataclass(frozen=True)
class RandomStep(RowStep):
    """A random projection: `matrix` times a row."""

    seed: int
    n_features: int
    n_components: int
    prefix: str

    @abstractmethod
    def matrix(self) -> Any:
        """Return the matrix, of shape (n_components, n_features): float64, possibly CSR."""

    def n_features_out(self, n_features: int) -> int:
        return self.n_components

    def feature_names_out(self, names: Names) -> Names:
        return numbered(self.prefix, self.n_components, names)


@dataclass(frozen=True)
class GaussianStep(RandomStep):
    """Entries are normal, with variance ``1 / n_components``."""

    @property
    def keeps_sparse(self) -> bool:
        return True

    def matrix(self) -> npt.NDArray[np.float64]:
        deviates = normal_matrix(self.seed, (self.n_components, self.n_features))
        return np.asarray(deviates / np.sqrt(self.n_components))

    def __call__(self, block: Block) -> Block:
        if block.is_sparse:
            X = _ordered(block.X)
            made = product_of_sparse_rows(X, _made(_transposed, self, X.dtype))
        else:
            made = product(block.X, _made(_panels, self, block.X.dtype))
        return Block(made, block.row_start, block.weights)


@dataclass(frozen=True)
class SparseStep(RandomStep):
    """A share `density` of the entries is not zero, but ``+-1 / sqrt(density * n_components)``."""

    density: float
    dense_output: bool

    @property
    def keeps_sparse(self) -> bool:
        return True

    def matrix(self) -> Any:
        indptr, indices, data = self.entries()
        return sp.csr_matrix((data, indices, indptr), (self.n_components, self.n_features))

    def entries(self) -> SparseMatrix:
        """Return the same in compressed rows."""
        found = sparse_signs(self.seed, (self.n_components, self.n_features), self.density)
        return found._replace(data=found.data * np.sqrt(1 / self.density / self.n_components))

    def __call__(self, block: Block) -> Block:
        dtype = block.X.dtype
        if block.is_sparse:
            transposed = _made(_sparse_transposed, self, dtype)
            made: Any = product_of_sparse(_ordered(block.X), transposed, self.n_components)
            if not self.dense_output:
                made = sp.csr_matrix(made)
        elif self.density <= SPARSE_DENSITY and self.n_components >= SPARSE_COMPONENTS:
            made = product_with_sparse(block.X, _made(_sparse, self, dtype))
        else:
            made = product(block.X, _made(_panels, self, dtype))
        return Block(made, block.row_start, block.weights)


class Butterflies(NamedTuple):
    """What a Hadamard transform is applied to, and what is kept of it."""

    signs: Rows  # (n_features,)
    subset: npt.NDArray[np.int64]  # (n_components,)


@dataclass(frozen=True)
class HadamardStep(RandomStep):
    """Some rows of a Hadamard matrix, whose columns have random signs."""

    def parts(self, dtype: Dtype) -> Butterflies:
        """Return what is random in it."""
        size = transform_size(self.n_features)
        return Butterflies(
            random_signs(self.seed, self.n_features).astype(dtype),
            random_subset(self.seed, size, self.n_components),
        )

    def matrix(self) -> npt.NDArray[np.float64]:
        signs, subset = self.parts(np.dtype(np.float64))
        mixed = hadamard_rows(subset, self.n_features) * signs
        return np.asarray(mixed / np.sqrt(self.n_components))

    def __call__(self, block: Block) -> Block:
        signs, subset = _made(HadamardStep.parts, self, block.X.dtype)
        scale, size = 1 / np.sqrt(self.n_components), transform_size(self.n_features)
        made = hadamard_project(block.X, signs, subset, scale, size)
        return Block(made, block.row_start, block.weights)


def transform_size(n_features: int) -> int:
    """Return the order of the Hadamard matrix for rows of so many features."""
    return max(BUTTERFLY, 1 << (n_features - 1).bit_length())


def _panels(step: RandomStep, dtype: Dtype) -> Panels:
    matrix = step.matrix()
    return Panels.of((matrix.toarray() if sp.issparse(matrix) else matrix).astype(dtype))


def _transposed(step: GaussianStep, dtype: Dtype) -> Rows:
    return np.ascontiguousarray(step.matrix().T, dtype=dtype)


def _sparse(step: SparseStep, dtype: Dtype) -> SparseMatrix:
    entries = step.entries()
    return entries._replace(data=entries.data.astype(dtype))


def _sparse_transposed(step: SparseStep, dtype: Dtype) -> SparseMatrix:
    columns = step.matrix().tocsc()
    return SparseMatrix(
        columns.indptr.astype(np.int64),
        columns.indices.astype(np.int32),
        columns.data.astype(dtype),
    )


def _ordered(X: Any) -> Any:
    """Return a CSR matrix whose columns are in order in each row, each once."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


_lock = threading.Lock()


def _made(make: Callable[[Any, Dtype], Any], step: RandomStep, dtype: Dtype) -> Any:
    """Return what `make` makes, once for all threads of this process."""
    with _lock:
        return _kept(make, step, dtype)


@lru_cache(maxsize=4)
def _kept(make: Callable[[Any, Dtype], Any], step: RandomStep, dtype: Dtype) -> Any:
    return make(step, dtype)

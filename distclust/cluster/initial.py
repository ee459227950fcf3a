"""Initial centers in every form ``init`` takes, and how often to try.

How rows are chosen is `distclust.cluster.seeding`.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

from distclust.cluster.seeding import Drawn, all_rows, merge_drawn
from distclust.data.arrays import ArraySource
from distclust.engine.shards import Shards

__all__ = ["FEW_ROWS", "checked_centers", "count_runs", "distinct_rows", "gather_rows"]

FEW_ROWS = 8192  # so few are brought to the driver

Rows = npt.NDArray[Any]


def checked_centers(init: Any, n_clusters: int, n_features: int, dtype: np.dtype[Any]) -> Rows:
    """Validate centers that a user or a user's function gave, and copy them.

    Raises
    ------
    ValueError
        They are not finite numbers, or not of shape (n_clusters, n_features).
    """
    centers: Rows = check_array(init, dtype=dtype, copy=True, order="C")
    expected = {"clusters": n_clusters, "features of the data": n_features}
    for size, (what, wanted) in zip(centers.shape, expected.items(), strict=True):
        if size != wanted:
            raise ValueError(
                f"The shape of the initial centers {centers.shape} does not match the "
                f"number of {what} {wanted}."
            )
    return centers


def count_runs(init: Any, n_init: str | int, *, auto: int, name: str) -> int:
    """Return how many sets of initial centers to try.

    Parameters
    ----------
    init : str, callable or array
    n_init : "auto" or int
    auto : int
        What ``"auto"`` means for ``"random"`` and callables; one for all else.
    name : str
        Class to name in the warning that an array is tried once.
    """
    is_array = not isinstance(init, str) and not callable(init)
    if n_init == "auto":
        return auto if callable(init) or (not is_array and init == "random") else 1
    if is_array and n_init != 1:
        warnings.warn(
            "Explicit initial center position passed: performing only one init in "
            f"{name} instead of n_init={n_init}.",
            RuntimeWarning,
            stacklevel=6,
        )
        return 1
    return int(n_init)


def gather_rows(shards: Shards) -> Drawn:
    """Bring all rows and their weights to this process, in row order."""
    gathered: Drawn = shards.reduce(all_rows, partial(merge_drawn, None))
    return gathered


def distinct_rows(rows: Rows, weights: npt.NDArray[np.float64]) -> ArraySource:
    """Merge equal rows, adding their weights, and sort them; drop those of weight zero.

    What is made of these depends neither on the order of the rows nor on whether a row
    is repeated or weighs more.
    """
    distinct, which = np.unique(rows + rows.dtype.type(0), axis=0, return_inverse=True)
    totals = np.zeros(len(distinct))
    np.add.at(totals, which, weights)  # in row order
    if totals.any():
        distinct, totals = distinct[totals > 0], totals[totals > 0]
    return ArraySource(np.ascontiguousarray(distinct), totals)

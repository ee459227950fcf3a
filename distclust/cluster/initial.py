"""Initial centers in every form ``init`` takes, and how often to try.

How rows are chosen is `distclust.cluster.seeding`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

__all__ = ["checked_centers", "count_runs"]

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

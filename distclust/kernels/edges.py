"""Edges of a spanning tree as flat arrays, in the total order that makes the tree unique.

Mutual reachability distances tie by construction (all of a dense neighbourhood is at its
core distance), so a minimum spanning tree is made unique by ordering edges by
``(weight, lower row id, higher row id)``. Whatever is derived from the tree is then a
function of the data and the row ids alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["SpanningTree"]


class SpanningTree(NamedTuple):
    """The minimum spanning tree of n rows, edges ascending by ``(weight, u, v)``."""

    u: npt.NDArray[np.int64]  # (n - 1,): lower row id
    v: npt.NDArray[np.int64]  # (n - 1,): higher row id
    weights: npt.NDArray[np.float64]  # (n - 1,): mutual reachability distance

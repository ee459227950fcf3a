"""Strides: how far centers go beyond the means of their rows, to get there in fewer iterations.

Near its end, Lloyd's iteration is a linear map, and what takes a hundred iterations is a
few slow modes that each shrinks by a few per cent. Centers that go *w* times the way to
their means shrink a mode by *w* times as much. Modes that are fast would overshoot, so
strides of 1, 2 and more take turns, as in Chebyshev's semi-iteration. With the labels kept,
the inertia above the means' is ``(1 - w)**2`` times what it was: up to ``w = 2`` it cannot
rise. Beyond, it may; then centers go back to the means they had left out, and strides
become shorter, until they prove right again.

With few rows a cluster, means move by leaps rather than in modes: then each stride is the
same, and short.

Where it ends is where Lloyd's iteration ends: at means that no longer move.

Sources: G. H. Golub and R. S. Varga, "Chebyshev semi-iterative methods, successive
overrelaxation iterative methods, and second order Richardson iterative methods", 1961;
X. Xiao, "Over-relaxation Lloyd method for computing centroidal Voronoi tessellations", 2010.
"""

from __future__ import annotations

__all__ = ["Strides"]

ROWS_PER_CLUSTER = 1024  # of fewer, strides are
SHORT = 1.4
SAFE = 2.0  # the longest that cannot raise the inertia
FIRST, LONGEST, SHORTEST = 5.0, 8.0, 1.5
LONGER, SHORTER = 1.1, 0.7


class Strides:
    """The strides of a run, in multiples of the way to the means.

    Parameters
    ----------
    n_rows : int
    n_clusters : int

    Examples
    --------
    >>> strides = Strides(1_000_000, 100)
    >>> [strides.next() for _ in range(4)]
    [1.0, 2.0, 5.0, 1.0]
    >>> Strides(1_000_000, 1000).next()
    1.4
    """

    def __init__(self, n_rows: int, n_clusters: int) -> None:
        self._few = n_rows < ROWS_PER_CLUSTER * n_clusters
        self._longest = FIRST
        self._turn = 0

    def next(self) -> float:
        """Return the next stride; that it is asked for says that the last one was right."""
        if self._few:
            return SHORT
        turn, self._turn = self._turn, (self._turn + 1) % 3
        if turn == 0:
            return 1.0
        if turn == 1:
            return min(SAFE, self._longest)
        longest, self._longest = self._longest, min(self._longest * LONGER, LONGEST)
        return longest

    def shorten(self) -> None:
        """Take shorter ones, as the last has raised the inertia; the next is to the means."""
        self._longest = max(self._longest * SHORTER, SHORTEST)
        self._turn = 0

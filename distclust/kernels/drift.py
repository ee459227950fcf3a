"""How far centers are from where they were when bounds on a row's distances were measured.

Bounds of a row are of the step that last looked at it. They loosen by how far centers are
from where they were then, not by the way they took meanwhile: centers that come back
loosen nothing (J. Newling and F. Fleuret, "Fast k-means with accurate bounds", 2016).

That is known exactly from a few steps back, the sparser the longer ago. From those between
it is bounded by way of the next later one that is known (triangle inequality).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.grouped import Groups
from distclust.kernels.moving import TINY, UP

__all__ = ["MOST_REFERENCES", "MOST_STEPS", "Drift", "Travelled"]

MOST_STEPS, FEWEST_STEPS = 255, 16  # a row's is kept in a byte
MOST_REFERENCES = 8  # steps of which the centers are kept
ROWS_PER_CENTER = 32  # what is kept of centers takes an eighth of what float32 rows take, at most

F64 = npt.NDArray[np.float64]


class Travelled(NamedTuple):
    """What loosens the bounds of a row measured at each earlier step, rounded up."""

    step: int  # this one: rows that are looked at have bounds of it
    own: npt.NDArray[np.float32]  # (steps, k): how far each center is from where it was
    others: npt.NDArray[Any]  # (steps, k): the farthest of all others; or of `Groups.farthest`

    @classmethod
    def none(cls) -> Travelled:
        """For memory without bounds."""
        none = np.zeros((0, 0), dtype=np.float32)
        return cls(0, none, none)


@dataclass(eq=False)
class Drift:
    """Where centers were at the steps since bounds are kept.

    Attributes
    ----------
    apart : ndarray of shape (most steps, k)
        How far centers at a step may be from those of the reference that it goes by.
    through : ndarray of shape (most steps,)
        Which step is that reference.
    references : dict of int to ndarray of shape (k, d)
        Centers at some steps, the earliest first.
    scale : float
        From data to distances as seen through the frame.
    most_references : int
    n_steps : int
    """

    apart: F64
    through: npt.NDArray[np.int64]
    references: dict[int, F64]
    scale: float
    most_references: int
    n_steps: int = 0

    @classmethod
    def none(cls, n_rows: int, n_clusters: int, n_features: int, scale: float) -> Drift:
        """Before the first step.

        Parameters
        ----------
        n_rows : int
            That bounds are kept of.
        n_clusters, n_features : int
        scale : float
        """
        rows_per_center = n_rows // (ROWS_PER_CENTER * n_clusters)
        n_steps = min(MOST_STEPS, max(FEWEST_STEPS, rows_per_center * n_features))
        references = min(MOST_REFERENCES, max(1, rows_per_center))
        apart, through = np.zeros((n_steps, n_clusters)), np.zeros(n_steps, dtype=np.int64)
        return cls(apart, through, {}, scale, references)

    def anew(self) -> Drift:
        """Before the first step again."""
        return Drift(self.apart, self.through, {}, self.scale, self.most_references)

    @property
    def is_full(self) -> bool:
        """Whether no further step can be remembered."""
        return self.n_steps == len(self.through)

    def remember(self, centers: F64) -> None:
        """Note where centers, (k, d), were at the step that is done."""
        self.references[self.n_steps] = centers
        self.through[self.n_steps] = self.n_steps
        self.apart[self.n_steps] = 0
        self.n_steps += 1
        if len(self.references) > self.most_references:
            self._forget_one()

    def _forget_one(self) -> None:
        """Go by way of the next reference instead of one: near others for its age."""
        steps = list(self.references)

        def room(i: int) -> float:
            return (steps[i + 1] - (steps[i - 1] if i else -1)) / (self.n_steps - steps[i])

        place = min(range(len(steps) - 1), key=room)
        step, after = steps[place : place + 2]
        detour = self._from(step, self.references[after])
        those = self.through == step
        those[self.n_steps :] = False
        self.apart[those] += detour
        self.through[those] = after
        del self.references[step]

    def _from(self, step: int, centers: F64) -> F64:
        """Return how far centers are from where they were at a reference, (k,), rounded up."""
        moved = np.empty(len(centers))
        _distances(self.references[step], centers, self.scale, moved)
        return moved

    def travelled(self, centers: F64, groups: Groups | None = None) -> Travelled:
        """Return how far `centers`, (k, d), are from where they were at each step."""
        n_steps = max(self.n_steps, 1)  # rows that were never looked at have the first
        own = np.zeros((n_steps, len(centers)), dtype=np.float32)
        if self.n_steps:
            places = np.searchsorted(list(self.references), self.through[:n_steps])
            now = np.stack([self._from(step, centers) for step in self.references])
            _by_way(self.apart, places, now, own)
        if groups:
            return Travelled(self.n_steps, own, groups.farthest(own))
        others = np.empty_like(own)
        _farthest_others(own, others)
        return Travelled(self.n_steps, own, others)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _distances(there, here, scale, out):  # type: ignore[no-untyped-def]
    """Write the distance of each center from where it was, rounded up."""
    for c in range(there.shape[0]):
        total = 0.0
        for j in range(there.shape[1]):
            moved = (here[c, j] - there[c, j]) * scale
            total += moved * moved
        out[c] = np.sqrt(total) * (1 + 1e-6)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _by_way(apart, places, now, own):  # type: ignore[no-untyped-def]
    """Add the way from each step to its reference and the one from there, rounded up."""
    for step in range(own.shape[0]):
        rest = now[places[step]]
        for c in range(own.shape[1]):
            way = apart[step, c] + rest[c]
            if way == 0:
                own[step, c] = 0
            else:  # what is not a number is any way off
                own[step, c] = np.float32(way) * UP + TINY if way > 0 else np.float32(np.inf)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _farthest_others(own, others):  # type: ignore[no-untyped-def]
    """Write, for each center of each step, the farthest of all others."""
    zero = np.float32(0)
    for step in range(own.shape[0]):
        farthest, place, second = zero, 0, zero
        for c in range(own.shape[1]):
            if own[step, c] > farthest:
                farthest, place, second = own[step, c], c, farthest
            elif own[step, c] > second:
                second = own[step, c]
        for c in range(own.shape[1]):
            others[step, c] = second if c == place else farthest

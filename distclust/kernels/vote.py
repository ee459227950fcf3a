"""Majority votes among labels."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["majority"]


def majority(
    labels: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the most frequent label of each row, the lowest of equals, and its votes.

    Parameters
    ----------
    labels : ndarray of shape (n, k), int32

    Returns
    -------
    winners, votes : ndarray of shape (n,), int32

    Examples
    --------
    >>> import numpy as np
    >>> majority(np.array([[3, 1, 3], [2, 0, -1]], dtype=np.int32))
    (array([ 3, -1], dtype=int32), array([2, 1], dtype=int32))
    """
    winners = np.empty(labels.shape[0], dtype=np.int32)
    votes = np.empty(labels.shape[0], dtype=np.int32)
    _majority(labels, winners, votes)
    return winners, votes


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _majority(labels, winners, votes):  # type: ignore[no-untyped-def]
    """Count runs in each row's sorted labels (winners, votes: OUT)."""
    k = labels.shape[1]
    for i in range(labels.shape[0]):
        ballots = np.sort(labels[i])
        best, start = 0, 0
        for j in range(1, k + 1):
            if j == k or ballots[j] != ballots[start]:
                if j - start > best:
                    best, winners[i] = j - start, ballots[start]
                start = j
        votes[i] = best

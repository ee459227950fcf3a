"""Which values rows may have: whoever reads them says so, and decoding refuses the others."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Allowed"]


class Allowed(Enum):
    """The values that are let through."""

    FINITE = "finite"
    MISSING = "missing"  # NaN as well, which nulls become
    ANY = "any"  # infinity as well

    def good(self, X: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Say which values of an array are let through.

        Examples
        --------
        >>> Allowed.MISSING.good(np.array([1.0, np.nan, np.inf]))
        array([ True,  True, False])
        """
        if self is Allowed.ANY:
            return np.ones(X.shape, np.bool_)
        good: npt.NDArray[np.bool_] = np.isfinite(X) if self is Allowed.FINITE else ~np.isinf(X)
        return good

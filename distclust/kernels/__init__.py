"""Kernels: arrays to arrays, compiled by numba, one thread each, no I/O.

Compiled code is cached per user rather than beside the sources, which may be read-only
or unpacked afresh for every job.
"""

from __future__ import annotations

import os
from pathlib import Path

import numba

if not numba.config.CACHE_DIR:
    _home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    numba.config.CACHE_DIR = str(_home / "distclust" / "numba")

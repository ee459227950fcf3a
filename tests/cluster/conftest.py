"""Where the clusterers' tests run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import distclust
from distclust.backends.local import LocalBackend
from distclust.engine import threads


@pytest.fixture
def few_rows_are_shared_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all threads of a call at work in this process, as on the many rows of real data."""
    monkeypatch.setattr(threads, "PRODUCTS_PER_THREAD", 1)


@pytest.fixture(params=["local", "ray", "dask"], scope="module")
def anywhere(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two workers."""
    if request.param == "local":
        with LocalBackend(workers=2) as backend:
            yield backend
    else:
        address = request.getfixturevalue(f"{request.param}_cluster")
        with distclust.connect(request.param, address=address) as backend:
            yield backend
